"""The catalogue holds every documented path, and names, kinds and marks are what was promised."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from exporter.model.catalog import ORDER_ITEMS, ORDERS, Column, Kind

pytestmark = pytest.mark.fast

_FIELDS = Path(__file__).parents[1] / "data" / "fields.csv"
_ITEMS = "orderitem_set[]."
_PLACES = {
    "customer",
    *(
        f"{kind}_address{inner}"
        for kind in ("shipping", "billing")
        for inner in ("", ".country", ".city", ".township", ".district")
    ),
    "orderitem_set",
    "channel",
}


def _documented() -> list[str]:
    with _FIELDS.open(encoding="utf-8", newline="") as file:
        return [row["path"] for row in csv.DictReader(file)]


def _named(table: tuple[Column, ...]) -> dict[str, Column]:
    return {column.name: column for column in table}


def test_every_documented_path_is_a_column_in_the_documented_order() -> None:
    """Each path of the API's field list is a column or a place that holds columns; nothing else is."""
    leaves = [path for path in _documented() if path not in _PLACES]
    of_items = [path.removeprefix(_ITEMS) for path in leaves if path.startswith(_ITEMS)]
    of_orders = [path for path in leaves if not path.startswith(_ITEMS)]
    assert [".".join(column.path) for column in ORDERS if column.path] == of_orders
    assert [".".join(column.path) for column in ORDER_ITEMS if column.path] == of_items


@pytest.mark.parametrize("table", [ORDERS, ORDER_ITEMS])
def test_names_are_the_paths_joined(table: tuple[Column, ...]) -> None:
    """A column's name is its path joined with `_`, but for an item's `order`; no name comes twice."""
    for column in table:
        if column.path and column.name != "order_id":
            assert column.name == "_".join(column.path)
    assert len(_named(table)) == len(table)
    assert all(column.meaning and column.source for column in table)


def test_columns_that_the_exporter_adds() -> None:
    """Items begin with `order_number` and `item_index`; both tables end with `_unmapped`."""
    assert [column.name for column in ORDER_ITEMS[:2]] == ["order_number", "item_index"]
    assert ORDERS[-1].name == ORDER_ITEMS[-1].name == "_unmapped"
    assert _named(ORDER_ITEMS)["order_id"].path == ("order",)


def test_kinds_follow_the_contract() -> None:
    """Ids and counts are integers, codes and digits that are names are text, money is decimal."""
    orders, items = _named(ORDERS), _named(ORDER_ITEMS)
    text = "number status bin_number shipping_address_postcode billing_address_phone_number customer_phone_number"
    integer = (
        "id customer_id shipping_address_city_id payment_option installment installment_count external_status"
    )
    money = "amount shipping_tax_rate installment_interest_amount refund_amount net_shipping_amount"
    for names, kind in ((text, Kind.TEXT), (integer, Kind.INTEGER), (money, Kind.DECIMAL)):
        assert {orders[name].kind for name in names.split()} == {kind}
    assert {orders[name].kind for name in ("date_placed", "invoice_date")} == {Kind.TIMESTAMP}
    assert {orders[name].kind for name in ("is_send", "billing_address_e_bill_taxpayer")} == {Kind.BOOLEAN}
    assert {orders[name].kind for name in ("extra_field", "channel_conf", "_unmapped")} == {Kind.JSON}
    assert {items[name].kind for name in ("price", "tax_rate", "retail_price")} == {Kind.DECIMAL}
    assert {items[name].kind for name in ("product_sku", "status", "shipment_code")} == {Kind.TEXT}
    assert {items[name].kind for name in ("extra_field", "attributes", "attributes_kwargs")} == {Kind.JSON}


def test_personal_data_is_marked() -> None:
    """E-mails, names, phones, address lines, postcodes, notes, tax, identity, IP, gift note and BIN are."""
    address = "email phone_number first_name last_name line postcode notes tax_no tax_office identity_number"
    personal = {
        *(f"{kind}_address_{name}" for kind in ("shipping", "billing") for name in address.split()),
        *(f"customer_{name}" for name in ("email", "first_name", "last_name", "phone_number")),
        *("remote_addr", "gift_box_note", "bin_number"),
    }
    marked = {column.name for column in ORDERS if column.personal}
    assert personal <= marked
    assert marked - personal == {
        *(f"{kind}_address_{name}" for kind in ("shipping", "billing") for name in ("title", "company_name")),
        "e_archive_url",
    }
    assert {column.name for column in ORDER_ITEMS if column.personal} == {"e_archive_url"}


def test_every_personal_column_is_text() -> None:
    """A hash is text, so that hashing never changes a column's type."""
    assert {column.kind for column in (*ORDERS, *ORDER_ITEMS) if column.personal} == {Kind.TEXT}


def test_the_catalogue_does_not_import_pyarrow() -> None:
    """Reading the catalogue costs no pyarrow import: `exporter --help` stays quick."""
    code = (
        "import sys, exporter.model.catalog, exporter.api.payload_check; sys.exit('pyarrow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
