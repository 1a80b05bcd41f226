"""The columns of every table: path in the API, name, kind, personal or not, meaning, source.

A column's name is its path joined with `_`. Two exceptions: an item's `order` is `order_id`, and the
columns that the exporter adds itself (`order_number`, `item_index`, `_unmapped`) have no path.
`order_lines` has the columns of both tables, an item's with `item_` before its name.

Marked personal is what a customer types or what singles one out. Beyond the plain cases that means
address titles ("Ayşe's home"), company names (a sole trader's is a person's name) and e-archive links
(whoever opens one reads an invoice with name, address and tax number). Cities and other ids are not.
"""

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
    """One column of one table."""

    table: str
    path: tuple[str, ...]  # the keys that lead to the value, from the order or from the item
    name: str
    kind: Kind
    personal: bool  # whether `--pii drop` and `--pii hash` hide it
    meaning: str
    source: str  # `documentation`, `example` (only seen in that) or `exporter`

    @property
    def nullable(self) -> bool:
        """Whether a row may lack it."""
        return self.name not in _KEYS[self.table]

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

_KEYS = {"orders": ("number",), "order_items": ("order_number", "item_index"), "order_lines": ("number",)}
_UNKNOWN = "not documented"  # what the API's documentation leaves open, so that nobody takes it for known
_STATUSES = ", ".join(f"{code} {name}" for code, name in STATUS_NAMES.items())

# path | kind, `personal`, source where that is not the documentation | meaning
_ADDRESS = """
email | text, personal | e-mail
phone_number | text, personal | phone number
first_name | text, personal | first name
last_name | text, personal | last name
country.name | text | country name
country.code | text | country code
city.id | integer | city id
city.name | text | city name
line | text, personal | street and house
title | text, personal | title, as the customer calls it
township.id | integer | township id
township.name | text | township name
district.id | integer | district id
district.name | text, example | district name
postcode | text, personal | postcode
notes | text, personal | notes
company_name | text, personal | company name
tax_office | text, personal | tax office
tax_no | text, personal | tax number
e_bill_taxpayer | boolean | whether an e-bill taxpayer
identity_number | text, personal, example | identity number
extra_field | json, example | additional information
"""


def _address(place: str, whose: str) -> str:
    rows = (row.split(" | ") for row in _ADDRESS.strip().splitlines())
    return "\n".join(f"{place}.{path} | {facts} | {whose}: {meaning}" for path, facts, meaning in rows)


_ORDERS = f"""
id | integer, example | Order id
number | text | Order number, unique within its sales channel
status | text | Order status code: {_STATUSES}
date_placed | timestamp | When the order was placed
customer.id | integer, example | Customer id
customer.email | text, personal | Customer's e-mail
customer.first_name | text, personal | Customer's first name
customer.last_name | text, personal | Customer's last name
customer.phone_number | text, personal | Customer's phone number
{_address("shipping_address", "Shipping address")}
{_address("billing_address", "Billing address")}
currency | text | Currency of the order's amounts
amount | decimal | Amount of the order; in the API's example the items' prices and shipping_amount. Before or after discount: {_UNKNOWN}. With or without tax: {_UNKNOWN}. Refunds are not taken off
shipping_amount | decimal | Shipping amount; with or without tax: {_UNKNOWN}
shipping_tax_rate | decimal | Shipping tax rate, in percent
extra_field | json | Additional information about the order
payment_option | integer | Id of the payment option
payment_option_slug | text | Slug of the payment option
bin_number | text, personal | First digits of the payment card (BIN)
installment | integer | Id of the installment plan
installment_count | integer | Number of installments
installment_interest_amount | decimal | Late charges
cargo_company | integer | Id of the cargo company
invoice_number | text | Invoice number
invoice_date | timestamp | When the invoice was issued
e_archive_url | text, personal | Link to the e-archive invoice
refund_amount | decimal | Refunded amount of the order; with or without shipping_refund_amount: {_UNKNOWN}
discount_refund_amount | decimal | Refunded discount
shipping_refund_amount | decimal | Refunded shipping amount
discount_amount | decimal | Total discount of the order; whether amount has it: {_UNKNOWN}
is_send | boolean | Whether the order was sent to the ERP
net_shipping_amount | decimal | shipping_amount and shipping_interest_amount together
shipping_interest_amount | decimal | Interest on the shipping amount
tracking_number | text | Cargo tracking number
carrier_shipping_code | text | Shipping code of the carrier
remote_addr | text, personal | IP address that placed the order
has_gift_box | boolean | Whether there is a gift box
gift_box_note | text, personal | Gift note
external_status | integer | Id of the external status
channel.name | text, example | Name of the sales channel
channel.conf | json, example | Configuration of the sales channel
_unmapped | json, exporter | What fits no column, as a JSON object {{path: value}}; null where everything fits
"""
_ORDER_ITEMS = f"""
order_number | text, exporter | Order number of the item's order; repeats orders.number
item_index | integer, exporter | Place of the item in its order, from 0
id | integer | Order item id; one item is one unit, as far as seen: see attributes
order | integer | Id of the item's order; repeats orders.id
product_sku | text | SKU of the product
status | text | Item status code: {_STATUSES}
price_currency | text | Currency of the item's amounts
price | decimal | Price of the item, without shipping. Before or after discount: {_UNKNOWN}. With or without tax: {_UNKNOWN}
tax_rate | decimal | Tax rate of the item, in percent
extra_field | json | Additional information about the item
price_list | integer | Id of the price list
stock_list | integer | Id of the stock list
cancel_status | text | State of the cancellation: waiting, confirmation_waiting, confirmed, approved, rejected, waiting_for_payment, manuel_refund_need, completed; null where there is none
invoice_number | text | Invoice number
invoice_date | timestamp | When the invoice was issued
e_archive_url | text, personal | Link to the e-archive invoice
installment_interest_amount | decimal | Late charges of the installment
tracking_number | text | Shipping tracking number
carrier_shipping_code | text | Shipping code of the carrier
shipping_company | text | Shipping company
shipment_code | text | Shipment code
external_status | integer | Id of the external status
discount_amount | decimal | Total discount of the item; whether price has it: {_UNKNOWN}
retail_price | decimal | Retail price; with or without tax: {_UNKNOWN}
attributes | json | Attributes of the item; where a shop merges equal items, their quantity is in here, under a key of its own
attributes_kwargs | json | Details of the product's attributes
image | text | Link to the product's image
_unmapped | json, exporter | What fits no column, as a JSON object {{path: value}}; null where everything fits
"""


def _columns(table: str, rows: str) -> tuple[Column, ...]:
    return tuple(_column(table, *row.split(" | ")) for row in rows.strip().splitlines())


def _column(table: str, path: str, facts: str, meaning: str) -> Column:
    kind, *more = facts.split(", ")
    source = next((word for word in more if word != "personal"), "documentation")
    return Column(
        table=table,
        path=() if source == "exporter" else tuple(path.split(".")),
        name="order_id" if (table, path) == ("order_items", "order") else path.replace(".", "_"),
        kind=Kind(kind),
        personal="personal" in more,
        meaning=meaning,
        source=source,
    )


ORDERS = _columns("orders", _ORDERS)
ORDER_ITEMS = _columns("order_items", _ORDER_ITEMS)


def _of_order(column: Column) -> Column:
    where = "on the order's first line only, so that sums are right" if column.money else "on each line"
    return replace(column, table="order_lines", meaning=f"{column.meaning} (the order's, {where})")


def _of_item(column: Column) -> Column:
    meaning = column.meaning if "item" in column.meaning.lower() else f"{column.meaning} (the item's)"
    path = (f"{ITEMS_KEY}[]", *column.path) if column.path else ()
    return replace(column, table="order_lines", name=line_name(column.name), path=path, meaning=meaning)


def line_name(item_column: str) -> str:
    """Return what a column of `order_items` is called in `order_lines`.

    >>> line_name("price"), line_name("item_index")
    ('item_price', 'item_index')
    """
    return item_column if item_column.startswith("item_") else f"item_{item_column}"


ORDER_LINES: tuple[Column, ...] = (
    *(_of_order(column) for column in ORDERS[:-1]),
    # An item's order number is the order's, which is before it.
    *(_of_item(column) for column in ORDER_ITEMS[1:-1]),
    _of_order(ORDERS[-1]),
    _of_item(ORDER_ITEMS[-1]),
)
"""The columns of `order_lines`, in their order: a row for each item, and one for an order without items."""

TABLES: Final = {"orders": ORDERS, "order_items": ORDER_ITEMS, "order_lines": ORDER_LINES}
"""The columns of every table, by its name."""
