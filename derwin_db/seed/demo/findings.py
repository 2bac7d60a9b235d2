"""What goes wrong in the demo's ERP: two dozen findings, each as a ticket, as signals, as a failing test and as a fix.

A text may hold `{order}`, `{invoice}`, `{lot}`, `{sku}` and `{customer}`: `details` fills them in, so that no two tickets of a
finding read the same.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import unified_diff

from derwin_db.models.enums import DiscoveryRoute

ROUTES = {
    "data_integrity": DiscoveryRoute.DATA_INTEGRITY,
    "calculation": DiscoveryRoute.E2E_CRAWL,
    "ui_bug": DiscoveryRoute.VISUAL_DIFF,
    "api_contract": DiscoveryRoute.API_CONTRACT,
    "performance": DiscoveryRoute.PERFORMANCE,
    "accessibility": DiscoveryRoute.ACCESSIBILITY,
    "security": DiscoveryRoute.STATIC_ANALYSIS,
    "copy_text": DiscoveryRoute.E2E_CRAWL,
}
"""How findings of each classification are mostly found."""

MERGE_RATE = {
    "copy_text": 0.95,
    "accessibility": 0.88,
    "ui_bug": 0.8,
    "api_contract": 0.7,
    "calculation": 0.55,
    "performance": 0.45,
    "data_integrity": 0.35,
    "security": 0.3,
}
"""How often a fix of each classification is merged."""

SHARES = {
    "ui_bug": 18,
    "calculation": 15,
    "api_contract": 15,
    "accessibility": 14,
    "data_integrity": 12,
    "copy_text": 12,
    "performance": 9,
    "security": 5,
}
"""How often each is found, of a hundred."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with the product."""

    classification: str
    risk: float
    screen: str
    path: str
    title: str
    actual: str
    expected: str
    steps: Sequence[str]
    test: str
    """The test that holds a fix."""
    complaint: str
    """What a review or a failing test says of a fix that was not good enough."""
    file: str
    line: int
    before: str
    after: str
    summary: str
    signals: Sequence[str]
    payload: Mapping[str, object]

    @property
    def diff(self) -> str:
        """The fix as a unified diff."""
        old, new = (["# ...", *text.strip("\n").split("\n"), ""] for text in (self.before, self.after))
        lines = list(unified_diff(old[1:], new[1:], f"a/{self.file}", f"b/{self.file}", lineterm="", n=2))
        place = lines[2].replace("-1,", f"-{self.line},").replace("+1,", f"+{self.line},")
        return "\n".join([*lines[:2], place, *lines[3:]]) + "\n"


FINDINGS = (
    Finding(
        "calculation",
        0.62,
        "Invoicing",
        "/invoices/new",
        "Invoice {invoice}: gross differs from net plus tax by one cent when tax codes are mixed",
        "Net 1,204.35 plus tax 228.83 is shown as 1,433.17.",
        "The gross is 1,433.18: tax is rounded once a tax code, not once a line.",
        ("Open order {order} with lines at 19 % and 7 %", "Choose 'Create invoice'", "Compare gross with net plus tax"),
        "tests/billing/test_totals.py::test_mixed_tax_codes_round_once",
        "test_mixed_tax_codes_round_once: assert Decimal('1433.17') == Decimal('1433.18')",
        "erp/billing/totals.py",
        84,
        """
def gross(lines):
    net = sum(line.net for line in lines)
    tax = sum(round(line.net * line.tax_rate, 2) for line in lines)
    return net + tax
""",
        """
def gross(lines):
    net = sum(line.net for line in lines)
    by_code = groupby(sorted(lines, key=tax_code), key=tax_code)
    tax = sum(cents(sum(line.net * line.tax_rate for line in same)) for _, same in by_code)
    return net + tax
""",
        "Tax is summed up exactly for each tax code and rounded once, half up, as the ledger does.",
        ("Gross 1,433.17 on the invoice, 1,433.18 in the journal", "Total of the invoice form differs from its PDF by 0.01"),
        {"step": 3, "assertion": "gross == net + tax", "expected": "1433.18", "found": "1433.17"},
    ),
    Finding(
        "calculation",
        0.55,
        "Order entry",
        "/orders/copy",
        "Copying order {order} applies the customer's discount twice",
        "A line of 100.00 with 10 % discount becomes 81.00 in the copy.",
        "The copy has the same net amount as the original, 90.00.",
        ("Open order {order} of {customer}", "Choose 'Copy'", "Compare the net amounts of both"),
        "tests/orders/test_copy.py::test_discount_is_applied_once",
        "test_discount_is_applied_once: assert Decimal('81.00') == Decimal('90.00')",
        "erp/orders/copying.py",
        31,
        """
def copy_line(line, customer):
    price = line.net_price
    return replace(line, id=None, price=price * (1 - customer.discount))
""",
        """
def copy_line(line, customer):
    price = line.list_price
    return replace(line, id=None, price=price * (1 - customer.discount))
""",
        "The copy starts from the list price instead of the price that has the discount already.",
        ("Net of the copied order is 10 % below the original", "Order total changed from 1,890.00 to 1,701.00 after 'Copy'"),
        {"step": 2, "assertion": "copy.net == original.net", "expected": "1890.00", "found": "1701.00"},
    ),
    Finding(
        "calculation",
        0.48,
        "Procurement",
        "/purchase-orders",
        "Freight is shared by the number of lines instead of their weight in purchase order {order}",
        "A pallet and a box carry 50 % of the freight each.",
        "Freight follows the weight of the lines: 96 % and 4 %.",
        ("Open purchase order {order}", "Enter freight of 120.00", "Open the landed costs of both lines"),
        "tests/procurement/test_landed_cost.py::test_freight_follows_weight",
        "test_freight_follows_weight: assert Decimal('60.00') == Decimal('115.20')",
        "erp/procurement/landed_cost.py",
        57,
        """
def freight_shares(order):
    share = order.freight / len(order.lines)
    return {line.id: share for line in order.lines}
""",
        """
def freight_shares(order):
    weight = sum(line.weight for line in order.lines)
    return {line.id: order.freight * line.weight / weight for line in order.lines}
""",
        "Freight is shared by weight, the rest of the rounding goes to the heaviest line.",
        ("Landed cost of {sku} is 48 % above its supplier's price", "Freight of both lines is the same amount"),
        {"step": 3, "assertion": "freight by weight", "expected": "115.20", "found": "60.00"},
    ),
    Finding(
        "data_integrity",
        0.86,
        "General ledger",
        "/journal",
        "Journal entry does not balance after a partial credit note for invoice {invoice}",
        "Debits are 412.00, credits are 412.38: the tax of the credit note is missing.",
        "Debits equal credits in every posted entry.",
        ("Issue a credit note over one line of invoice {invoice}", "Post it", "Open its journal entry"),
        "tests/ledger/test_credit_notes.py::test_partial_credit_balances",
        "Review: the entry balances now, but entries that were posted before stay wrong. A correction has to be booked too.",
        "erp/ledger/credit_notes.py",
        112,
        """
def entries(note):
    yield Debit(REVENUE, note.net)
    yield Credit(RECEIVABLES, note.gross)
""",
        """
def entries(note):
    yield Debit(REVENUE, note.net)
    if note.tax:
        yield Debit(SALES_TAX, note.tax)
    yield Credit(RECEIVABLES, note.gross)
""",
        "A credit note takes its share of the tax back as well, so that its entry balances.",
        ("Entry of a credit note: debits 412.00, credits 412.38", "Sum of open items differs from account 1400 by 0.38"),
        {"check": "debits_equal_credits", "rows": 3, "difference": "0.38"},
    ),
    Finding(
        "data_integrity",
        0.9,
        "Stock",
        "/stock/batches",
        "Stock of lot {lot} goes negative when a return is cancelled",
        "Batch {lot} holds -12 pieces in warehouse HAM-2.",
        "The stock of a batch is never below zero; cancelling a return that was sold on is refused.",
        ("Register a return of 12 pieces of {sku}", "Reserve them for order {order}", "Cancel the return"),
        "tests/stock/test_returns.py::test_cancelled_return_keeps_reservations",
        "Review: two clerks who cancel at once still get below zero. The row has to be locked before it is read.",
        "erp/stock/returns.py",
        203,
        """
def cancel(return_id):
    item = Return.get(return_id)
    batch = Batch.get(item.batch_id)
    batch.quantity -= item.quantity
""",
        """
def cancel(return_id):
    item = Return.get(return_id)
    batch = Batch.get(item.batch_id, for_update=True)
    if batch.quantity - batch.reserved < item.quantity:
        raise StillReserved(item)
    batch.quantity -= item.quantity
""",
        "The batch is locked first, and a return whose goods are reserved can't be cancelled.",
        ("2 batches with a quantity below zero", "Sum of movements of {lot} differs from its stock by 12"),
        {"check": "no_negative_stock", "rows": 2, "difference": "-12"},
    ),
    Finding(
        "data_integrity",
        0.82,
        "Stock",
        "/stock/reservations",
        "An expired batch of {sku} is reserved when its expiry date is today",
        "Order {order} reserves lot {lot}, which expired at midnight.",
        "Expired batches are skipped: first expired, first out, of those that are still good.",
        ("Let the expiry date of lot {lot} be today", "Enter an order of {sku}", "Look at the reserved lot"),
        "tests/stock/test_fefo.py::test_expired_today_is_skipped",
        "test_fefo.py::test_time_zone_of_the_warehouse: the warehouse in Lima is still on the day before",
        "erp/stock/fefo.py",
        46,
        """
def candidates(sku, today):
    batches = Batch.of(sku).order_by("expires_on")
    return [batch for batch in batches if batch.expires_on >= today]
""",
        """
def candidates(sku, today):
    batches = Batch.of(sku).order_by("expires_on")
    return [batch for batch in batches if batch.expires_on > batch.warehouse.today(today)]
""",
        "A batch is good until the day before its expiry date, by the calendar of its warehouse.",
        ("4 reservations of batches that expire today", "Lot {lot} is reserved and blocked at once"),
        {"check": "no_expired_reservation", "rows": 4},
    ),
    Finding(
        "ui_bug",
        0.3,
        "Stock",
        "/stock/reservations",
        "The button 'Reserve' is below the fold of its dialog at 1280 x 720",
        "The dialog does not scroll, so that the button can't be reached with the mouse.",
        "Actions of a dialog stay at its lower edge, its content scrolls.",
        ("Open a window of 1280 x 720", "Open the reservations of {sku}", "Choose 'Reserve...'"),
        "web/tests/dialogs.spec.ts: actions stay visible at 720 px",
        "web/tests/dialogs.spec.ts: on iOS the bar covers the last field",
        "web/src/components/Dialog.tsx",
        38,
        """
    <div className="dialog">
      <div className="dialog-body">{children}</div>
      <footer>{actions}</footer>
    </div>
""",
        """
    <div className="dialog">
      <div className="dialog-body scrolls">{children}</div>
      <footer className="sticks">{actions}</footer>
    </div>
""",
        "The body of a dialog scrolls, its actions stick to the lower edge.",
        ("Dialog 'Reserve' is 64 px higher than the window", "The primary action is outside of the viewport"),
        {"viewport": "1280x720", "changed_pixels": 48211, "baseline": "reservations-dialog.png"},
    ),
    Finding(
        "ui_bug",
        0.26,
        "Invoicing",
        "/invoices",
        "Sorting invoices by due date loses the selection",
        "Three selected invoices become none, and 'Send reminder' is disabled.",
        "The same invoices stay selected, wherever sorting takes them.",
        ("Select three invoices", "Click on the heading 'Due date'", "Look at the selection"),
        "web/tests/invoices.spec.ts: keeps the selection when sorted",
        "web/tests/invoices.spec.ts: selection of the second page is lost",
        "web/src/invoices/useSelection.ts",
        17,
        """
  const [selected, setSelected] = useState<number[]>([]);
  useEffect(() => setSelected([]), [rows]);
  const isSelected = (index: number) => selected.includes(index);
""",
        """
  const [selected, setSelected] = useState<Set<string>>(new Set());
  const isSelected = (id: string) => selected.has(id);
""",
        "What is selected is known by the id of the invoice instead of its place in the table.",
        ("Toolbar says '0 selected' after sorting", "Checkbox of the first row is cleared by a click on a heading"),
        {"viewport": "1440x900", "changed_pixels": 9120, "baseline": "invoices-selected.png"},
    ),
    Finding(
        "ui_bug",
        0.22,
        "Reports",
        "/reports/margin",
        "Long names of customers push the amounts out of the margin report",
        "The column 'Margin' starts outside of the window for {customer}.",
        "Names are cut with an ellipsis, and amounts stay in view.",
        ("Open the margin report", "Filter by {customer}", "Look at the right edge"),
        "web/tests/reports.spec.ts: amounts stay in view",
        "web/tests/reports.spec.ts: the cut name has no title to read it in full",
        "web/src/reports/MarginTable.module.css",
        12,
        """
.name {
  white-space: nowrap;
}
""",
        """
.name {
  max-width: 18rem;
  overflow: hidden;
  text-overflow: ellipsis;
  white-space: nowrap;
}
""",
        "The name has a largest width and an ellipsis; its title has it in full.",
        ("Table is 212 px wider than the window", "Column 'Margin' begins at x = 1,304 of 1,280"),
        {"viewport": "1280x720", "changed_pixels": 15730, "baseline": "margin-report.png"},
    ),
    Finding(
        "ui_bug",
        0.34,
        "Order entry",
        "/orders",
        "The order form keeps the delivery address of the customer before",
        "After {customer} is chosen, the street is still that of the former customer.",
        "Choosing another customer brings that customer's address.",
        ("Start an order", "Choose a customer", "Choose {customer} instead", "Look at the delivery address"),
        "web/tests/orders.spec.ts: address follows the customer",
        "web/tests/orders.spec.ts: an address that was typed by hand is overwritten",
        "web/src/orders/OrderForm.tsx",
        91,
        """
  useEffect(() => {
    if (!address) setAddress(customer.address);
  }, [customer]);
""",
        """
  useEffect(() => {
    if (!isTyped) setAddress(customer.address);
  }, [customer, isTyped]);
""",
        "The address follows the customer until somebody types one.",
        ("Street of the order differs from the customer's", "Address did not change with the customer"),
        {"viewport": "1440x900", "changed_pixels": 2204, "baseline": "order-address.png"},
    ),
    Finding(
        "api_contract",
        0.52,
        "Invoicing",
        "/api/v2/invoices/{id}",
        "GET /api/v2/invoices/{invoice} answers 500 for a voided invoice",
        "TypeError: 'NoneType' object has no attribute 'due_on'",
        "200 with `due_on: null`, as the description says.",
        ("Void invoice {invoice}", "GET it by its number", "Look at the status"),
        "tests/api/test_invoices.py::test_voided_invoice_has_no_due_date",
        "tests/api/test_description.py: due_on is not nullable in the description of v1",
        "erp/api/invoices.py",
        64,
        """
    return {
        "number": invoice.number,
        "due_on": invoice.terms.due_on.isoformat(),
    }
""",
        """
    return {
        "number": invoice.number,
        "due_on": invoice.terms.due_on.isoformat() if invoice.terms else None,
    }
""",
        "A voided invoice has no terms of payment: its due date is null.",
        ("500 from GET /api/v2/invoices/{invoice}", "Answer does not fit the description: due_on is missing"),
        {"method": "GET", "status": 500, "expected_status": 200, "seconds": 0.212},
    ),
    Finding(
        "api_contract",
        0.44,
        "Order entry",
        "/api/v2/orders",
        "The filter `since` of /api/v2/orders ignores the offset of its time",
        "since=2026-03-01T00:00:00-05:00 returns orders from five hours before.",
        "Times are compared in UTC, whatever their offset.",
        ("GET /api/v2/orders?since=2026-03-01T00:00:00-05:00", "Look at the oldest order"),
        "tests/api/test_orders.py::test_since_has_an_offset",
        "tests/api/test_orders.py::test_since_without_offset: 422 expected, 200 found",
        "erp/api/filters.py",
        22,
        """
def parse_since(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
""",
        """
def parse_since(text):
    since = datetime.fromisoformat(text)
    if since.tzinfo is None:
        raise BadRequest("since: a time with an offset")
    return since.astimezone(UTC)
""",
        "The offset is taken into account, and a time without one is refused.",
        ("Order {order} is older than `since`", "38 orders where 31 were expected"),
        {"method": "GET", "status": 200, "expected_status": 200, "unexpected": 7},
    ),
    Finding(
        "api_contract",
        0.4,
        "Stock",
        "/api/v2/batches",
        "POST /api/v2/batches takes a quantity of 0 and answers 201",
        "A batch of nothing is created, and its label is printed.",
        "422 with the name of the field.",
        ("POST a batch of {sku} with quantity 0", "Look at the answer"),
        "tests/api/test_batches.py::test_quantity_is_above_zero",
        "tests/api/test_batches.py::test_problem_names_the_field: 'quantity' is missing in the answer",
        "erp/api/schemas.py",
        140,
        """
class BatchIn(BaseModel):
    lot: Lot
    quantity: int
""",
        """
class BatchIn(BaseModel):
    lot: Lot
    quantity: PositiveInt
""",
        "The quantity of a new batch is above zero.",
        ("201 for quantity 0", "Schema allows a quantity of 0, the documentation does not"),
        {"method": "POST", "status": 201, "expected_status": 422, "field": "quantity"},
    ),
    Finding(
        "performance",
        0.46,
        "Reports",
        "/reports/month-end",
        "The month end report takes over a minute with 40,000 entries",
        "74 s; one query for each journal entry.",
        "Below 5 s, as the service level says.",
        ("Open the month end report", "Choose the last month", "Wait"),
        "tests/reports/test_month_end.py::test_statements_do_not_grow",
        "tests/reports/test_month_end.py::test_statements_do_not_grow: 3 expected, 412 found",
        "erp/reports/month_end.py",
        73,
        """
    for entry in entries_of(month):
        totals[entry.account.group] += entry.amount
""",
        """
    for entry in entries_of(month).join(Account).load_only("amount", "account.group"):
        totals[entry.account.group] += entry.amount
""",
        "Accounts are read along with the entries: three statements however many there are.",
        ("Largest contentful paint 74.1 s", "41,207 statements in one request"),
        {"metric": "LCP", "value_ms": 74100, "budget_ms": 5000, "statements": 41207},
    ),
    Finding(
        "performance",
        0.36,
        "Order entry",
        "/orders",
        "The list of orders is loaded again at every key stroke of its search",
        "Typing '{customer}' sends 14 requests, and the last answer is not that of the last one.",
        "One request, 300 ms after the last key; older answers are dropped.",
        ("Open the list of orders", "Type '{customer}'", "Count the requests"),
        "web/tests/orders.spec.ts: one request for a word",
        "web/tests/orders.spec.ts: an empty search shows no orders",
        "web/src/orders/useOrders.ts",
        9,
        """
  const orders = useQuery(["orders", text], () => fetchOrders(text));
""",
        """
  const wanted = useDebounced(text, 300);
  const orders = useQuery(["orders", wanted], ({ signal }) => fetchOrders(wanted, signal));
""",
        "The search waits 300 ms for the next key, and an older request is aborted.",
        ("14 requests within 1.8 s", "Interaction to next paint 612 ms"),
        {"metric": "INP", "value_ms": 612, "budget_ms": 200, "requests": 14},
    ),
    Finding(
        "accessibility",
        0.2,
        "Stock",
        "/stock/receive",
        "The field for the lot has no label on the receiving screen",
        "A screen reader says 'edit text' and nothing more.",
        "Every field has a name: 'Lot number'.",
        ("Open the receiving screen", "Move to the second field with a screen reader"),
        "web/tests/a11y.spec.ts: /stock/receive has no violations",
        "web/tests/a11y.spec.ts: the label names the wrong field",
        "web/src/stock/Receive.tsx",
        52,
        """
      <span>Lot number</span>
      <input name="lot" />
""",
        """
      <label htmlFor="lot">Lot number</label>
      <input id="lot" name="lot" />
""",
        "The text beside the field is its label now.",
        ("Form elements must have labels: input[name=lot]", "Label is not read by NVDA"),
        {"rule": "label", "impact": "critical", "selector": "input[name=lot]"},
    ),
    Finding(
        "accessibility",
        0.16,
        "Recall",
        "/recalls",
        "The warning of a recall has a contrast of 2.9 to 1",
        "Orange on yellow: 2.9 to 1.",
        "At least 4.5 to 1.",
        ("Open a recall of {sku}", "Look at the banner"),
        "web/tests/a11y.spec.ts: /recalls has no violations",
        "Review: please use the token --warning-text, not a colour of its own",
        "web/src/theme/tokens.css",
        28,
        """
  --warning-paper: #ffe58f;
  --warning-text: #d48806;
""",
        """
  --warning-paper: #ffe58f;
  --warning-text: #6b4400;
""",
        "The text of warnings is dark enough on its paper: 7.1 to 1.",
        ("Elements must meet minimum colour contrast: .banner-warning", "Contrast of 2.9 where 4.5 is needed"),
        {"rule": "color-contrast", "impact": "serious", "selector": ".banner-warning", "ratio": 2.9},
    ),
    Finding(
        "accessibility",
        0.18,
        "Procurement",
        "/purchase-orders/approve",
        "Approving a purchase order can't be done by keyboard",
        "The button is a <div> that no key reaches.",
        "Tab reaches it, Enter and Space press it.",
        ("Open purchase order {order}", "Press Tab until 'Approve' should have the focus"),
        "web/tests/a11y.spec.ts: approve by keyboard",
        "web/tests/a11y.spec.ts: the focus is lost after the dialog closes",
        "web/src/procurement/Approve.tsx",
        19,
        """
    <div className="button" onClick={approve}>Approve</div>
""",
        """
    <button type="button" onClick={approve}>Approve</button>
""",
        "It is a button, with all that comes with one.",
        ("Interactive element is not focusable: .button", "No key press reaches 'Approve'"),
        {"rule": "focus-order-semantics", "impact": "serious", "selector": "div.button"},
    ),
    Finding(
        "security",
        0.92,
        "Reports",
        "/exports/{id}",
        "The link of an export works without a session",
        "GET /exports/8f2c answers 200 to a browser that never signed in.",
        "401 without a session, 403 for another user's export.",
        ("Export the customers of {customer}", "Open the link in a private window"),
        "tests/security/test_exports.py::test_needs_a_session",
        "Review: the link is in mails that were sent. Old links have to end as well, after 24 hours at most.",
        "erp/web/exports.py",
        26,
        """
@router.get("/exports/{id}")
def export(id: UUID):
    return stream(Export.get(id))
""",
        """
@router.get("/exports/{id}")
def export(id: UUID, user: User = Depends(signed_in)):
    return stream(Export.get(id, owner=user))
""",
        "An export is only for the user who made it, within a session.",
        ("Route without an authorization: GET /exports/{id}", "Answer 200 without a cookie"),
        {"tool": "semgrep", "rule": "fastapi-route-without-auth", "file": "erp/web/exports.py", "line": 26},
    ),
    Finding(
        "security",
        0.78,
        "Procurement",
        "/api/v2/products",
        "A role without rights sees unit costs in the search of products",
        "The answer for the role 'Sales' holds `unit_cost`.",
        "Costs are for 'Purchasing' and 'Finance' alone.",
        ("Sign in as a user of 'Sales'", "Search for {sku}", "Look at the answer"),
        "tests/security/test_product_fields.py::test_sales_sees_no_costs",
        "test_sales_sees_no_costs[export]: the CSV still has the column",
        "erp/api/products.py",
        88,
        """
    return [ProductOut.model_validate(product) for product in found]
""",
        """
    shape = ProductWithCosts if user.may("costs.read") else ProductOut
    return [shape.model_validate(product) for product in found]
""",
        "The shape of the answer depends on the rights of the user.",
        ("Field unit_cost in an answer to role 'Sales'", "ProductOut has a field marked as confidential"),
        {"tool": "semgrep", "rule": "confidential-field-in-response", "file": "erp/api/products.py", "line": 88},
    ),
    Finding(
        "copy_text",
        0.08,
        "Recall",
        "/recalls/mail",
        "The recall mail names the supplier where it should name the customer",
        "'Dear {{supplier}}' in the mail to {customer}.",
        "'Dear {customer}'.",
        ("Start a recall of lot {lot}", "Look at the preview of the mail"),
        "tests/recall/test_mail.py::test_names_the_customer",
        "tests/recall/test_mail.py::test_german: the German text is unchanged",
        "erp/recall/templates/mail.txt",
        1,
        """
Dear {{ supplier.name }},
lot {{ lot.number }} of {{ product.name }} is recalled.
""",
        """
Dear {{ customer.name }},
lot {{ lot.number }} of {{ product.name }} is recalled.
""",
        "The mail is addressed to the customer, in all languages.",
        ("Recall mail to {customer} begins with another company", "Placeholder 'supplier' in a mail to a customer"),
        {"step": 2, "assertion": "mail names its reader", "found": "supplier.name"},
    ),
    Finding(
        "copy_text",
        0.05,
        "Settings",
        "/settings/modules",
        "A tooltip still speaks of the module 'Warehouse Classic'",
        "'Only with Warehouse Classic', which was removed in March.",
        "'Only where batches are managed'.",
        ("Open the settings of modules", "Hover over 'Batches'"),
        "web/tests/copy.spec.ts: no former names",
        "web/tests/copy.spec.ts: the key is missing in pt-BR",
        "web/src/i18n/en.json",
        411,
        """
  "modules.batches.hint": "Only with Warehouse Classic",
""",
        """
  "modules.batches.hint": "Only where batches are managed",
""",
        "The tooltip names what is needed today.",
        ("Former product name on /settings/modules", "'Warehouse Classic' is no module"),
        {"step": 2, "assertion": "no former names", "found": "Warehouse Classic"},
    ),
    Finding(
        "copy_text",
        0.06,
        "Order entry",
        "/orders/new",
        "The error for a missing delivery date says 'Invalid input'",
        "'Invalid input', with no field marked.",
        "'Choose a delivery date', beside the field.",
        ("Start an order for {customer}", "Leave the delivery date empty", "Save"),
        "web/tests/orders.spec.ts: says which date is missing",
        "web/tests/orders.spec.ts: the message is not linked to its field",
        "web/src/orders/validation.ts",
        33,
        """
  if (!order.deliveryDate) errors.form = t("errors.invalid");
""",
        """
  if (!order.deliveryDate) errors.deliveryDate = t("orders.deliveryDate.missing");
""",
        "The message stands beside the field and says what to do.",
        ("Message without a field on /orders/new", "Save fails with 'Invalid input' and nothing else"),
        {"step": 3, "assertion": "error names its field", "found": "Invalid input"},
    ),
)

_CUSTOMERS = ("Klinik Nord", "Praxis Dr. Vega", "St. Anne's Hospital", "MediTrans AG", "Hospital del Mar", "Apotheke am Ring")
_PRODUCTS = ("GLV-200", "SYR-10ML", "MSK-FFP2", "CAT-16G", "BND-80", "INF-500")


def details(pick: random.Random) -> dict[str, str]:
    """Return what fills in the texts of a finding."""
    return {
        "order": f"SO-{pick.randint(48_000, 52_999)}",
        "invoice": f"INV-{pick.randint(20_400, 24_899)}",
        "lot": f"{pick.choice('ABKM')}{pick.randint(2401, 2612)}-{pick.randint(10, 99)}",
        "sku": pick.choice(_PRODUCTS),
        "customer": pick.choice(_CUSTOMERS),
    }


def filled(text: str, given: Mapping[str, str]) -> str:
    """Return a text of a finding with its details. Other braces are the text's own."""
    for name, value in given.items():
        text = text.replace(f"{{{name}}}", value)
    return text
