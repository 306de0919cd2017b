"""Where a page of the queue ends, as a text that goes out and comes back."""

import base64
import binascii
import hashlib
import struct

from aligner.serving.review.paging import Filters, Place

_FORM = struct.Struct(">dq8s")


def written(place: Place, filters: Filters) -> str:
    """The cursor for the rows behind a place, with these filters."""
    return base64.urlsafe_b64encode(_FORM.pack(*place, _check(place, filters))).decode().rstrip("=")


def read(cursor: str, filters: Filters) -> Place:
    """The place that a cursor tells; raises ValueError for one that we did not write, or not for these filters."""
    try:
        value, number, check = _FORM.unpack(base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True))
    except (binascii.Error, struct.error, ValueError):
        raise ValueError("no cursor of ours") from None
    place = Place(value, number)
    if check != _check(place, filters) or written(place, filters) != cursor:
        raise ValueError("no cursor of these filters")
    return place


def _check(place: Place, filters: Filters) -> bytes:
    return hashlib.sha256(repr((tuple(place), filters)).encode(errors="surrogatepass")).digest()[:8]
