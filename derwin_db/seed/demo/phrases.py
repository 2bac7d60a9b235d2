"""What the demo history talks about: areas of an ERP, their typical findings, and how well fixes of them do."""

from derwin_db.models.enums import DiscoveryRoute

AREAS = {
    "data_integrity": ("Journal entry does not balance after a partial credit", "Stock of a batch turns negative on return"),
    "calculation": ("Totals drift by a cent with mixed tax codes", "Discount is applied twice on a copied order"),
    "ui_bug": ("The reservation dialog hides its button on small screens", "Sorting by due date loses the selection"),
    "api_contract": ("GET /invoices answers 500 for a voided invoice", "Date filter ignores the time zone"),
    "performance": ("Month end report takes over a minute", "Order list reloads on every key stroke"),
    "accessibility": ("The lot field has no label", "Contrast of the warning banner is too low"),
    "security": ("An export link works without a session", "A role without rights sees unit costs"),
    "copy_text": ("The recall mail names the wrong supplier field", "A tooltip speaks of the former module"),
}
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
MERGE_RATE = {"copy_text": 0.95, "ui_bug": 0.8, "accessibility": 0.85, "api_contract": 0.65, "calculation": 0.5}
PLACES = ("Order entry", "Invoicing", "Stock", "Procurement", "General ledger", "Recall", "Reports", "Settings")
