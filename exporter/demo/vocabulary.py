"""The words that demo orders are made of: real places, invented people, reserved addresses."""

# city id and name -> township id, name and post code -> districts
_TURKEY: dict[tuple[int, str], dict[tuple[int, str, str], tuple[str, ...]]] = {
    (34, "İstanbul"): {
        (421, "KADIKÖY", "34710"): ("CAFERAĞA", "FENERBAHÇE", "GÖZTEPE"),
        (449, "ÜSKÜDAR", "34664"): ("ÇENGELKÖY", "KUZGUNCUK"),
        (430, "BEŞİKTAŞ", "34330"): ("ORTAKÖY", "BEBEK"),
    },
    (6, "Ankara"): {
        (72, "ÇANKAYA", "06420"): ("KIZILAY", "BAHÇELİEVLER"),
        (88, "KEÇİÖREN", "06280"): ("ETLİK", "İNCİRLİ"),
    },
    (35, "İzmir"): {
        (470, "BORNOVA", "35040"): ("ERZENE", "KAZIMDİRİK"),
        (481, "KARŞIYAKA", "35580"): ("BOSTANLI", "MAVİŞEHİR"),
    },
    (16, "Bursa"): {(212, "OSMANGAZİ", "16010"): ("ÇEKİRGE", "SOĞANLI")},
    (7, "Antalya"): {(101, "MURATPAŞA", "07100"): ("ŞİRİNYALI", "KIZILTOPRAK")},
    (42, "Konya"): {(560, "SELÇUKLU", "42250"): ("BOSNA HERSEK", "YAZIR")},
    (27, "Gaziantep"): {(345, "ŞAHİNBEY", "27010"): ("KARATAŞ", "ÜNALDI")},
    (26, "Eskişehir"): {(338, "TEPEBAŞI", "26130"): ("ESENTEPE", "ŞİRİNTEPE")},
    (48, "Muğla"): {(641, "BODRUM", "48400"): ("YALIKAVAK", "GÜMÜŞLÜK")},
    (71, "Afyon"): {(853, "DİNAR", "03400"): ("İNCESU",)},
}
#: City, township and district, each with its id, and the post code; the API writes townships in capitals.
PLACES = tuple(
    (city, (township_id, township), (township_id * 10 + index, district), postcode)
    for city, townships in _TURKEY.items()
    for (township_id, township, postcode), districts in townships.items()
    for index, district in enumerate(districts)
)

# Nobody has these names: they say "example", "trial", "fiction", "draft".
FIRST_NAMES = ("Örnekcan", "Denemegül", "Kurguhan", "Hayalnur", "Taslakşah", "Provaçiçek", "Numuneığ")
LAST_NAMES = ("Uydurmaoğlu", "Olmayansoy", "Varsayımlı", "Masalgöz", "Kurgusever", "Örnekyıldız")
COMPANIES = ("Hayalî Dokuma A.Ş.", "Örnek Gıda Ltd. Şti.", "Kurgu Çözümleri Tic. A.Ş.")
TAX_OFFICES = ("Göztepe", "Çankaya", "Karşıyaka", "Osmangazi")
STREETS = ("Çınarlı Sk.", "Gül Cd.", "Şehit Kurgu Bulvarı", "Iğdeli Yol", "Örnek Çıkmazı")
NOTES = ("Kapıyı çalmayın, bebek uyuyor.", 'Komşuya bırakılabilir; "3. kat" yazın.', "Öğleden sonra gelin")
GIFT_NOTES = ("Doğum günün kutlu olsun! 🎂", "İyi ki varsın, çok öpüyorum")
ADDRESS_TITLES = ("EV", "İŞ", "Yazlık", "Annemin evi")
CHANNELS = ("Shop", "Mağaza Çağrı Merkezi", "Pazaryeri")
COLOURS = ("Kırmızı", "Gümüş", "Açık Yeşil", "Lacivert")
SIZES = ("S", "M", "L", "XL", "42")
SHIPPERS = ("yurtici", "aras", "mng")

PAYMENT_OPTIONS = tuple(
    {"payment_option": option, "payment_option_slug": slug}
    for option, slug in {2: "kredi_karti", 3: "havale_eft", 7: "kapıda_ödeme"}.items()
)

# status -> share of the orders, in percent
STATUS_SHARES: dict[str, int] = {
    "100": 6, "200": 2, "300": 2, "350": 2, "400": 14, "450": 10, "500": 12,
    "510": 6, "520": 2, "540": 2, "550": 38, "600": 4,
}  # fmt: skip
