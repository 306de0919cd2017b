"""Laws of a model's size, seen without its weights."""

from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from tiny import Family, tiny_model
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from aligner.config import NewModel
from aligner.planning.sizes import new_shape, shape_in
from aligner.records import Triple
from aligner.templates import TEMPLATES
from aligner.training.new_model import new_model


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma"])
def test_parameters_are_those_of_the_loaded_model(tmp_path: Path, family: Family) -> None:
    """The headers of the files say exactly how many there are, of any family."""
    folder = tiny_model(tmp_path, family)
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    assert shape_in(folder).parameters == model.num_parameters()


@pytest.mark.parametrize("tied", [True, False])
def test_without_weights_a_llama_is_counted_by_its_sizes(tmp_path: Path, tied: bool) -> None:
    """The formula is exact for a Llama, its head of its own or not, and its heads sharing keys or not."""
    config = LlamaConfig(
        vocab_size=300,
        hidden_size=48,
        intermediate_size=100,
        num_hidden_layers=3,
        num_attention_heads=6,
        num_key_value_heads=2,
        head_dim=16,
        tie_word_embeddings=tied,
    )
    config.save_pretrained(tmp_path)
    assert shape_in(tmp_path).parameters == LlamaForCausalLM(config).num_parameters()


def test_a_new_model_has_the_parameters_of_its_shape() -> None:
    """What the plan says of a model made from nothing is what is made."""
    new = NewModel(layers=2, width=32, heads=4, inner=50, vocabulary=300)
    model, tokenizer = new_model(new, TEMPLATES["sealed"], [Triple("a", "b", "c")], seed=0)
    assert new_shape(new, len(tokenizer)).parameters == model.num_parameters()


# Here peft itself is called, which asks transformers by an older name.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_adapters_are_those_of_peft(tmp_path: Path) -> None:
    """As many parameters learn as low-rank adapters at all linear maps have."""
    folder = tiny_model(tmp_path)
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    assert shape_in(folder).adapters(4) == adapted.get_nb_trainable_parameters()[0]


def test_a_file_that_is_no_safetensors_is_an_error(tmp_path: Path) -> None:
    """Its length would be read out of anything."""
    folder = tiny_model(tmp_path)
    save_file({}, folder / "none.safetensors")
    assert shape_in(folder).stored
    (folder / "none.safetensors").write_bytes(b"\xff" * 20)
    with pytest.raises(ValueError, match="no safetensors"):
        shape_in(folder)
