"""A model whose frozen weights are held in four bits (QLoRA): a quarter of the memory, on a GPU."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from aligner.config import Lora
from aligner.errors import MissingExtraError, MisuseError
from aligner.models.hf import CausalLM


def check_bits(lora: Lora) -> None:
    """Raises MisuseError or MissingExtraError where four bits are asked for and cannot be had."""
    if lora.bits == 16:
        return
    if not lora.rank:
        raise MisuseError("lora.bits = 4: weights in four bits cannot be trained themselves; set lora.rank, to 16 say")
    if not torch.cuda.is_available():
        raise MisuseError("lora.bits = 4: no GPU can be used here; set it to 16")
    if find_spec("bitsandbytes") is None:
        raise MissingExtraError("weights in four bits need an extra: pip install 'aligner-llm[gpu]'")


def load_quantised(folder: Path) -> CausalLM:
    """The model of a local folder in four bits, on the GPU of this process, and its tokenizer; after `check_bits`."""
    how = cast("Any", BitsAndBytesConfig)(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    model = cast("Any", AutoModelForCausalLM).from_pretrained(
        folder, quantization_config=how, device_map={"": torch.cuda.current_device()}, dtype=torch.bfloat16, **options
    )
    return CausalLM(model, cast("Any", AutoTokenizer).from_pretrained(folder, **options))
