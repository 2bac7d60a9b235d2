"""A small set of past fixes with what should be found for which question, judged by hand.

Each fix has words, and an embedding of its meaning: places on six axes of meaning, as a model would put them. A question
has both too. Some questions are about an identifier that no meaning tells, some about a meaning that no word tells.
"""

from typing import NamedTuple

from tests.repos.rows import axis


class Fix(NamedTuple):
    problem: str
    summary: str
    meaning: tuple[float, ...]


class Question(NamedTuple):
    text: str
    meaning: tuple[float, ...]
    relevant: tuple[str, ...]
    """Names of the fixes that answer it."""


# axes of meaning: rounding money, time zones, permissions, performance, missing data, wording
FIXES = {
    "rounding": Fix("Order totals drift by a cent", "OrderTotal.compute rounds each line; round once", (1, 0, 0, 0, 0.1)),
    "tax": Fix("Tax of an invoice is a cent off", "tax_for_invoice() adds rounded parts, E4711", (0.95, 0, 0, 0, 0.2)),
    "currency": Fix("Foreign currency shows too many decimals", "Use Money.quantize of the currency", (0.8, 0, 0, 0, 0, 0.4)),
    "midnight": Fix("Reports of the last day are empty", "day_bounds took the server's zone instead of UTC", (0, 1, 0, 0, 0.5)),
    "summer": Fix("A job runs twice in October", "CronSchedule.next skipped the hour of the clock change", (0, 0.95, 0, 0.1)),
    "export": Fix("Export ends after an hour", "StreamWriter.flush blocks; E5012 in the log", (0, 0.1, 0, 0.9, 0.2)),
    "slow_list": Fix("The ticket list takes ten seconds", "ix_tickets_status was missing", (0, 0, 0, 1)),
    "n_plus_one": Fix("A customer sends 400 queries", "CustomerRepo.load_all fetches addresses one by one", (0, 0, 0, 0.95)),
    "viewer": Fix("A viewer can delete invoices", "can_delete asked for the wrong role", (0, 0, 1, 0, 0.1)),
    "share": Fix("Shared links work after they were revoked", "ShareToken.verify ignored revoked_at", (0, 0.1, 0.95)),
    "empty_cart": Fix("The cart is empty after login", "SessionMerger.merge drops the guest cart, HTTP 409", (0, 0, 0.2, 0, 1)),
    "lost_note": Fix("Notes vanish when two people edit", "NoteService.save overwrites: last write wins", (0, 0, 0.1, 0, 0.9)),
    "label": Fix("The button says Submit twice", "i18n key btn.submit was translated as a sentence", (0, 0, 0, 0, 0, 1)),
    "umlaut": Fix("Größe is shown as Gr??e", "decode_label assumed latin-1", (0, 0, 0, 0, 0.3, 0.9)),
}

QUESTIONS = (
    Question("OrderTotal.compute", (0.3, 0.3, 0.3, 0.3, 0.3), ("rounding",)),
    Question("E4711", (0, 0, 0, 0.7, 0.7), ("tax",)),
    Question("order_total rounding", (1, 0, 0, 0, 0.1), ("rounding", "tax", "currency")),
    Question("pennies go missing when we sum up a bill", (0.97, 0, 0, 0, 0.15), ("rounding", "tax")),
    Question("ShareToken", (0, 0, 0.3, 0.3), ("share",)),
    Question("anyone may remove what only owners should", (0, 0, 1, 0, 0), ("viewer", "share")),
    Question("HTTP 409 SessionMerger", (0, 0, 0, 0.5, 0.6), ("empty_cart",)),
    Question("timeout E5012 while writing the file", (0, 0, 0, 0.8, 0.1), ("export",)),
    Question("größe", (0, 0, 0, 0, 0.2, 0.2), ("umlaut",)),
    Question("daylight saving makes the scheduler fire again", (0, 0.97, 0, 0.1), ("summer", "midnight")),
    Question("load_all", (0, 0, 0, 0.6, 0.6), ("n_plus_one",)),
    Question("text of the interface is wrong", (0, 0, 0, 0, 0.1, 1), ("label", "umlaut")),
)


def embedding(meaning: tuple[float, ...]) -> list[float]:
    return axis(*map(float, meaning))
