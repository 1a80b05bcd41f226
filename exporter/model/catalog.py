"""The columns of every table: path in the API, name, kind, personal or not, meaning, source.

A column's name is its path joined with `_`. Two exceptions: an item's `order` is `order_id`, and the
columns that the exporter adds itself (`order_number`, `item_index`, `_unmapped`) have no path.
`order_lines` has the columns of both tables, an item's with `item_` before its name.

Marked personal is what a customer types or what singles one out. Beyond the plain cases that means
address titles ("Ayşe's home"), company names (a sole trader's is a person's name) and e-archive links
(whoever opens one reads an invoice with name, address and tax number). Cities and other ids are not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from exporter.model.order_statuses import STATUS_NAMES

ITEMS_KEY: Final = "orderitem_set"
"""The order's key that holds its items; each entry is a row of `order_items`."""


class Kind(Enum):
    """What a column holds; the Arrow, DuckDB and PostgreSQL types follow from it."""

    TEXT = "text"
    INTEGER = "integer"
    DECIMAL = "decimal"
    TIMESTAMP = "timestamp"
    BOOLEAN = "boolean"
    JSON = "json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One column of one table.

    Args:
        table: `orders`, `order_items` or `order_lines`.
        path: The keys that lead to the value, from the order or from the item; empty for what the exporter adds.
        name: The column's name, unique in its table.
        kind: What it holds.
        personal: Whether `--pii drop` and `--pii hash` hide it.
        meaning: One phrase for readers of the data.
        source: `documentation`, `example` (only seen in the documentation's example) or `exporter`.
    """

    table: str
    path: tuple[str, ...]
    name: str
    kind: Kind
    personal: bool
    meaning: str
    source: str

    @property
    def nullable(self) -> bool:
        """Whether a row may lack it."""
        return (self.table, self.name) not in _NEVER_NULL

    @property
    def change_kind(self) -> str:
        """Of what kind a change of it is: see `CHANGE_KINDS`."""
        known = next((kind for kind, names in CHANGE_KINDS.items() if self.name in names), None)
        return known or ("amount" if self.kind is Kind.DECIMAL else "other")

    @property
    def money(self) -> bool:
        """Whether it is an amount, so that people add it up; a rate is none."""
        return self.kind is Kind.DECIMAL and not self.name.endswith("_rate")


CHANGE_KINDS: Final[dict[str, tuple[str, ...]]] = {
    "order": ("id", "number", "date_placed", "order_id"),
    "status": ("status", "external_status"),
    "cancellation": ("cancel_status",),
    "refund": ("refund_amount", "discount_refund_amount", "shipping_refund_amount"),
    "amount": ("currency", "price_currency"),
    "invoice": ("invoice_number", "invoice_date", "e_archive_url"),
    "shipment": (
        *("is_send", "cargo_company", "tracking_number", "carrier_shipping_code"),
        *("shipping_company", "shipment_code"),
    ),
}
"""Columns of orders and items by the kind of their changes; other decimals are `amount`, the rest is `other`."""

_NEVER_NULL = {
    ("orders", "number"),
    ("order_items", "order_number"),
    ("order_items", "item_index"),
    ("order_lines", "number"),
}
_DOC, _EXAMPLE, _EXPORTER = "documentation", "example", "exporter"
#: What the API's documentation leaves open, so that nobody takes it for known.
_UNKNOWN = "not documented"
_STATUSES = ", ".join(f"{code} {name}" for code, name in STATUS_NAMES.items())
_OPEN, _PERSONAL = False, True
_Row = tuple[str, Kind, bool, str, str]

_UNMAPPED_MEANING = "What fits no column, as a JSON object {path: value}; null where everything fits"


def _address(place: str, whose: str) -> tuple[_Row, ...]:
    rows: tuple[_Row, ...] = (
        ("email", Kind.TEXT, _PERSONAL, "e-mail", _DOC),
        ("phone_number", Kind.TEXT, _PERSONAL, "phone number", _DOC),
        ("first_name", Kind.TEXT, _PERSONAL, "first name", _DOC),
        ("last_name", Kind.TEXT, _PERSONAL, "last name", _DOC),
        ("country.name", Kind.TEXT, _OPEN, "country name", _DOC),
        ("country.code", Kind.TEXT, _OPEN, "country code", _DOC),
        ("city.id", Kind.INTEGER, _OPEN, "city id", _DOC),
        ("city.name", Kind.TEXT, _OPEN, "city name", _DOC),
        ("line", Kind.TEXT, _PERSONAL, "street and house", _DOC),
        ("title", Kind.TEXT, _PERSONAL, "title, as the customer calls it", _DOC),
        ("township.id", Kind.INTEGER, _OPEN, "township id", _DOC),
        ("township.name", Kind.TEXT, _OPEN, "township name", _DOC),
        ("district.id", Kind.INTEGER, _OPEN, "district id", _DOC),
        ("district.name", Kind.TEXT, _OPEN, "district name", _EXAMPLE),
        ("postcode", Kind.TEXT, _PERSONAL, "postcode", _DOC),
        ("notes", Kind.TEXT, _PERSONAL, "notes", _DOC),
        ("company_name", Kind.TEXT, _PERSONAL, "company name", _DOC),
        ("tax_office", Kind.TEXT, _PERSONAL, "tax office", _DOC),
        ("tax_no", Kind.TEXT, _PERSONAL, "tax number", _DOC),
        ("e_bill_taxpayer", Kind.BOOLEAN, _OPEN, "whether an e-bill taxpayer", _DOC),
        ("identity_number", Kind.TEXT, _PERSONAL, "identity number", _EXAMPLE),
        ("extra_field", Kind.JSON, _OPEN, "additional information", _EXAMPLE),
    )
    return tuple(
        (f"{place}.{path}", kind, hide, f"{whose}: {what}", src) for path, kind, hide, what, src in rows
    )


_ORDER_ROWS: tuple[_Row, ...] = (
    ("id", Kind.INTEGER, _OPEN, "Order id", _EXAMPLE),
    ("number", Kind.TEXT, _OPEN, "Order number, unique within its sales channel", _DOC),
    ("status", Kind.TEXT, _OPEN, f"Order status code: {_STATUSES}", _DOC),
    ("date_placed", Kind.TIMESTAMP, _OPEN, "When the order was placed", _DOC),
    ("customer.id", Kind.INTEGER, _OPEN, "Customer id", _EXAMPLE),
    ("customer.email", Kind.TEXT, _PERSONAL, "Customer's e-mail", _DOC),
    ("customer.first_name", Kind.TEXT, _PERSONAL, "Customer's first name", _DOC),
    ("customer.last_name", Kind.TEXT, _PERSONAL, "Customer's last name", _DOC),
    ("customer.phone_number", Kind.TEXT, _PERSONAL, "Customer's phone number", _DOC),
    *_address("shipping_address", "Shipping address"),
    *_address("billing_address", "Billing address"),
    ("currency", Kind.TEXT, _OPEN, "Currency of the order's amounts", _DOC),
    (
        "amount",
        Kind.DECIMAL,
        _OPEN,
        (
            "Amount of the order; in the API's example the items' prices and shipping_amount."
            f" Before or after discount: {_UNKNOWN}. With or without tax: {_UNKNOWN}. Refunds are not taken off"
        ),
        _DOC,
    ),
    ("shipping_amount", Kind.DECIMAL, _OPEN, f"Shipping amount; with or without tax: {_UNKNOWN}", _DOC),
    ("shipping_tax_rate", Kind.DECIMAL, _OPEN, "Shipping tax rate, in percent", _DOC),
    ("extra_field", Kind.JSON, _OPEN, "Additional information about the order", _DOC),
    ("payment_option", Kind.INTEGER, _OPEN, "Id of the payment option", _DOC),
    ("payment_option_slug", Kind.TEXT, _OPEN, "Slug of the payment option", _DOC),
    ("bin_number", Kind.TEXT, _PERSONAL, "First digits of the payment card (BIN)", _DOC),
    ("installment", Kind.INTEGER, _OPEN, "Id of the installment plan", _DOC),
    ("installment_count", Kind.INTEGER, _OPEN, "Number of installments", _DOC),
    ("installment_interest_amount", Kind.DECIMAL, _OPEN, "Late charges", _DOC),
    ("cargo_company", Kind.INTEGER, _OPEN, "Id of the cargo company", _DOC),
    ("invoice_number", Kind.TEXT, _OPEN, "Invoice number", _DOC),
    ("invoice_date", Kind.TIMESTAMP, _OPEN, "When the invoice was issued", _DOC),
    ("e_archive_url", Kind.TEXT, _PERSONAL, "Link to the e-archive invoice", _DOC),
    (
        "refund_amount",
        Kind.DECIMAL,
        _OPEN,
        f"Refunded amount of the order; with or without shipping_refund_amount: {_UNKNOWN}",
        _DOC,
    ),
    ("discount_refund_amount", Kind.DECIMAL, _OPEN, "Refunded discount", _DOC),
    ("shipping_refund_amount", Kind.DECIMAL, _OPEN, "Refunded shipping amount", _DOC),
    (
        "discount_amount",
        Kind.DECIMAL,
        _OPEN,
        f"Total discount of the order; whether amount has it: {_UNKNOWN}",
        _DOC,
    ),
    ("is_send", Kind.BOOLEAN, _OPEN, "Whether the order was sent to the ERP", _DOC),
    (
        "net_shipping_amount",
        Kind.DECIMAL,
        _OPEN,
        "shipping_amount and shipping_interest_amount together",
        _DOC,
    ),
    ("shipping_interest_amount", Kind.DECIMAL, _OPEN, "Interest on the shipping amount", _DOC),
    ("tracking_number", Kind.TEXT, _OPEN, "Cargo tracking number", _DOC),
    ("carrier_shipping_code", Kind.TEXT, _OPEN, "Shipping code of the carrier", _DOC),
    ("remote_addr", Kind.TEXT, _PERSONAL, "IP address that placed the order", _DOC),
    ("has_gift_box", Kind.BOOLEAN, _OPEN, "Whether there is a gift box", _DOC),
    ("gift_box_note", Kind.TEXT, _PERSONAL, "Gift note", _DOC),
    ("external_status", Kind.INTEGER, _OPEN, "Id of the external status", _DOC),
    ("channel.name", Kind.TEXT, _OPEN, "Name of the sales channel", _EXAMPLE),
    ("channel.conf", Kind.JSON, _OPEN, "Configuration of the sales channel", _EXAMPLE),
)

_ITEM_ROWS: tuple[_Row, ...] = (
    ("id", Kind.INTEGER, _OPEN, "Order item id; one item is one unit, as far as seen: see attributes", _DOC),
    ("order", Kind.INTEGER, _OPEN, "Id of the item's order; repeats orders.id", _DOC),
    ("product_sku", Kind.TEXT, _OPEN, "SKU of the product", _DOC),
    ("status", Kind.TEXT, _OPEN, f"Item status code: {_STATUSES}", _DOC),
    ("price_currency", Kind.TEXT, _OPEN, "Currency of the item's amounts", _DOC),
    (
        "price",
        Kind.DECIMAL,
        _OPEN,
        f"Price of the item, without shipping. Before or after discount: {_UNKNOWN}. With or without tax: {_UNKNOWN}",
        _DOC,
    ),
    ("tax_rate", Kind.DECIMAL, _OPEN, "Tax rate of the item, in percent", _DOC),
    ("extra_field", Kind.JSON, _OPEN, "Additional information about the item", _DOC),
    ("price_list", Kind.INTEGER, _OPEN, "Id of the price list", _DOC),
    ("stock_list", Kind.INTEGER, _OPEN, "Id of the stock list", _DOC),
    (
        "cancel_status",
        Kind.TEXT,
        _OPEN,
        (
            "State of the cancellation: waiting, confirmation_waiting, confirmed, approved, rejected, waiting_for_payment,"
            " manuel_refund_need, completed; null where there is none"
        ),
        _DOC,
    ),
    ("invoice_number", Kind.TEXT, _OPEN, "Invoice number", _DOC),
    ("invoice_date", Kind.TIMESTAMP, _OPEN, "When the invoice was issued", _DOC),
    ("e_archive_url", Kind.TEXT, _PERSONAL, "Link to the e-archive invoice", _DOC),
    ("installment_interest_amount", Kind.DECIMAL, _OPEN, "Late charges of the installment", _DOC),
    ("tracking_number", Kind.TEXT, _OPEN, "Shipping tracking number", _DOC),
    ("carrier_shipping_code", Kind.TEXT, _OPEN, "Shipping code of the carrier", _DOC),
    ("shipping_company", Kind.TEXT, _OPEN, "Shipping company", _DOC),
    ("shipment_code", Kind.TEXT, _OPEN, "Shipment code", _DOC),
    ("external_status", Kind.INTEGER, _OPEN, "Id of the external status", _DOC),
    (
        "discount_amount",
        Kind.DECIMAL,
        _OPEN,
        f"Total discount of the item; whether price has it: {_UNKNOWN}",
        _DOC,
    ),
    ("retail_price", Kind.DECIMAL, _OPEN, f"Retail price; with or without tax: {_UNKNOWN}", _DOC),
    (
        "attributes",
        Kind.JSON,
        _OPEN,
        "Attributes of the item; where a shop merges equal items, their quantity is in here, under a key of its own",
        _DOC,
    ),
    ("attributes_kwargs", Kind.JSON, _OPEN, "Details of the product's attributes", _DOC),
    ("image", Kind.TEXT, _OPEN, "Link to the product's image", _DOC),
)

_RENAMED = {("order_items", "order"): "order_id"}


def _from_api(table: str, rows: tuple[_Row, ...]) -> tuple[Column, ...]:
    return tuple(
        Column(
            table=table,
            path=tuple(path.split(".")),
            name=_RENAMED.get((table, path), path.replace(".", "_")),
            kind=kind,
            personal=personal,
            meaning=meaning,
            source=source,
        )
        for path, kind, personal, meaning, source in rows
    )


def _added(table: str, name: str, kind: Kind, meaning: str) -> Column:
    return Column(
        table=table, path=(), name=name, kind=kind, personal=False, meaning=meaning, source=_EXPORTER
    )


ORDERS: tuple[Column, ...] = (
    *_from_api("orders", _ORDER_ROWS),
    _added("orders", "_unmapped", Kind.JSON, _UNMAPPED_MEANING),
)
"""The columns of `orders`, in their order."""

ORDER_ITEMS: tuple[Column, ...] = (
    _added(
        "order_items", "order_number", Kind.TEXT, "Order number of the item's order; repeats orders.number"
    ),
    _added("order_items", "item_index", Kind.INTEGER, "Place of the item in its order, from 0"),
    *_from_api("order_items", _ITEM_ROWS),
    _added("order_items", "_unmapped", Kind.JSON, _UNMAPPED_MEANING),
)
"""The columns of `order_items`, in their order."""


# --- order_lines ---


def _of_order(column: Column) -> Column:
    where = "on the order's first line only, so that sums are right" if column.money else "on each line"
    return replace(column, table="order_lines", meaning=f"{column.meaning} (the order's, {where})")


def _of_item(column: Column) -> Column:
    meaning = column.meaning if "item" in column.meaning.lower() else f"{column.meaning} (the item's)"
    return replace(
        column,
        table="order_lines",
        name=line_name(column.name),
        path=(f"{ITEMS_KEY}[]", *column.path) if column.path else (),
        meaning=meaning,
    )


def line_name(item_column: str) -> str:
    """Return what a column of `order_items` is called in `order_lines`.

    >>> line_name("price"), line_name("item_index")
    ('item_price', 'item_index')
    """
    return item_column if item_column.startswith("item_") else f"item_{item_column}"


ORDER_LINES: tuple[Column, ...] = (
    *(_of_order(column) for column in ORDERS[:-1]),
    # An item's order number is the order's, which stands before it.
    *(_of_item(column) for column in ORDER_ITEMS[1:-1]),
    _of_order(ORDERS[-1]),
    _of_item(ORDER_ITEMS[-1]),
)
"""The columns of `order_lines`, in their order: a row for each item, and one for an order without items."""

TABLES: Final = {"orders": ORDERS, "order_items": ORDER_ITEMS, "order_lines": ORDER_LINES}
"""The columns of every table, by its name."""
