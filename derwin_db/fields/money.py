"""Exact money: US dollars as `numeric(14, 6)`, refused where the column would round."""

import re
from decimal import Context, Decimal
from typing import Annotated

import sqlalchemy as sa
from pydantic import AfterValidator, BeforeValidator

from derwin_db.fields.scalars import described, refuse, stored

_DECIMAL_TEXT = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,6})?")

EXACT = Context(prec=64, traps=[])
"""How amounts are computed, whatever the process has set for its own numbers."""


def _decimal(value: object) -> Decimal:
    if isinstance(value, str) and len(value) <= 64 and _DECIMAL_TEXT.fullmatch(value):
        value = Decimal(value)
    if not isinstance(value, Decimal):
        raise refuse("money", "An amount is a Decimal or its text, never a float, an int or a bool")
    if not value.is_finite():
        raise refuse("money", "An amount is a finite number")
    if value.adjusted() >= 8 or (value and value.adjusted() < -6):
        raise refuse("money", "An amount has at most 8 digits before the point and 6 after it")
    exact = value.quantize(Decimal("0.000001"), context=EXACT)
    if exact != value:
        raise refuse("money", "An amount has at most 6 digits after the point")
    return exact


MONEY = sa.Numeric()

Money = Annotated[
    Decimal,
    BeforeValidator(_decimal),
    stored(MONEY, "{0} = round({0}, 6) AND {0} > -100000000 AND {0} < 100000000"),
    described(
        "US dollars as text: at most 8 digits before the point and 6 behind it.", "0.42", pattern=r"^[+-]?\d{1,8}(\.\d{1,6})?$"
    ),
]
"""US dollars: refused where a digit would be lost, by the database too. Text or Decimal, never a float."""


def _not_negative(value: Decimal) -> Decimal:
    if value < 0 or (value == 0 and value.is_signed()):
        raise refuse("money", "The amount is not negative")
    return value


Cost = Annotated[
    Decimal,
    BeforeValidator(_decimal),
    AfterValidator(_not_negative),
    stored(MONEY, "{0} = round({0}, 6) AND {0} >= 0 AND {0} < 100000000"),
    described("US dollars as text, not negative, at most 6 digits behind the point.", "0.42", pattern=r"^\d{1,8}(\.\d{1,6})?$"),
]
"""US dollars, not negative."""
