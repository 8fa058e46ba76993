"""Data folders of both layouts: what is found, in which order, and what is refused."""

from pathlib import Path

import pytest

from embedder.errors import CatalogError
from photographs import (
    Credit,
    Photograph,
    PhotographSet,
    Query,
    landmark_order,
    list_pictures,
    open_data,
)

CASES = Path(__file__).parents[4] / "shared" / "cases" / "layouts"


def write(path: Path, text: str = "") -> Path:
    """Write a small file, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def gldv2(tmp_path: Path) -> Path:
    """Make a GLDv2 folder of five pictures, whose files are not there."""
    write(tmp_path / "train.csv", "id,url,landmark_id\nbbb1,,10\naaa1,,9\nccc1,,9\naaa2,,9\n")
    write(tmp_path / "train_clean.csv", "landmark_id,images\n10,bbb1\n9,ccc1 aaa1\n")
    write(
        tmp_path / "train_label_to_category.csv",
        "landmark_id,category\n"
        "9,http://commons.wikimedia.org/wiki/Category:Hawa_Mahal\n"
        '10,"http://commons.wikimedia.org/wiki/Category:S%C3%A9,_Porto"\n',
    )
    write(
        tmp_path / "recognition_solution_v2.1.csv",
        "id,landmarks,Usage\nzzz1,,Public\nqqq1,9 10,Private\nrrr1,9,Private\n",
    )
    return tmp_path


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Make a folder of three landmarks with pictures of every kind of name."""
    for name in (
        "Taj Mahal/1.jpg",
        "Taj Mahal/at night/1.JPEG",
        "10/1.png",
        "9/b.webp",
        "9/a.gif",
        "9/.hidden.jpg",
        "9/notes.txt",
        ".trash/1.jpg",
    ):
        write(tmp_path / name)
    return tmp_path


def test_the_gallery_is_the_clean_list_where_there_is_one(gldv2: Path) -> None:
    """Without a list's name the clean list is taken, numbers sorted as numbers, then ids."""
    train = gldv2 / "train"
    assert open_data(gldv2).layout == "gldv2"
    assert open_data(gldv2).gallery() == [
        Photograph("aaa1", train / "a/a/a/aaa1.jpg", "9"),
        Photograph("ccc1", train / "c/c/c/ccc1.jpg", "9"),
        Photograph("bbb1", train / "b/b/b/bbb1.jpg", "10"),
    ]


def test_the_gallery_is_the_list_that_is_asked_for(gldv2: Path, tmp_path: Path) -> None:
    """A list is named within the data folder, or by a path to another place."""
    elsewhere = write(tmp_path / "elsewhere" / "mine.csv", "landmark_id,images\n7,ddd1\n")
    data = open_data(gldv2)
    assert [p.id for p in data.gallery("train.csv")] == ["aaa1", "aaa2", "ccc1", "bbb1"]
    assert data.gallery(str(elsewhere)) == [Photograph("ddd1", gldv2 / "train/d/d/d/ddd1.jpg", "7")]


def test_the_index_takes_its_landmarks_from_their_own_file(gldv2: Path) -> None:
    """GLDv2's index.csv has no landmarks: they come from beside it, unknown ones stay open."""
    write(gldv2 / "index.csv", "id\nxxx2\nxxx1\n")
    unlabeled = open_data(gldv2).gallery("index.csv")
    write(gldv2 / "index_image_to_landmark.csv", "id,landmark_id\nxxx2,5\n")
    labeled = open_data(gldv2).gallery("index.csv")
    assert [(p.id, p.landmark_id) for p in unlabeled] == [("xxx1", None), ("xxx2", None)]
    assert [(p.id, p.landmark_id) for p in labeled] == [("xxx2", "5"), ("xxx1", None)]
    assert labeled[0].path == gldv2 / "index/x/x/x/xxx2.jpg"


def test_queries_may_show_one_landmark_several_or_none(gldv2: Path) -> None:
    """The solution's empty field is a picture of no landmark, two ids are two landmarks."""
    test = gldv2 / "test"
    assert open_data(gldv2).queries() == [
        Query("qqq1", test / "q/q/q/qqq1.jpg", ("9", "10")),
        Query("rrr1", test / "r/r/r/rrr1.jpg", ("9",)),
        Query("zzz1", test / "z/z/z/zzz1.jpg", ()),
    ]


def test_there_are_no_queries_without_a_solution(gldv2: Path) -> None:
    """A gallery alone is a data folder too."""
    (gldv2 / "recognition_solution_v2.1.csv").unlink()
    assert open_data(gldv2).queries() == []


def test_names_are_decoded_from_the_categories(gldv2: Path) -> None:
    """Percent signs and underscores of the address are undone, commas kept."""
    assert open_data(gldv2).names() == {"9": "Hawa Mahal", "10": "Sé, Porto"}


def test_links_are_the_addresses_of_the_categories(gldv2: Path) -> None:
    """Only web pages: others, and scripts, are no links."""
    (gldv2 / "train_label_to_category.csv").write_text(
        "landmark_id,category\n"
        "9,http://commons.wikimedia.org/wiki/Category:Hawa_Mahal\n"
        "10,HTTPS://x.example/%C3%A9\n"
        "11,javascript:alert(1)\n"
        "12,\n"
        "13,Category:Pont_Neuf\n"
        "14,https://x.example/a b\n"
        '15,"https://x.example/a\nb"\n'
    )
    assert open_data(gldv2).links() == {
        "9": "http://commons.wikimedia.org/wiki/Category:Hawa_Mahal",
        "10": "HTTPS://x.example/%C3%A9",
    }
    assert open_data(gldv2).links("index.csv") == {}


def test_landmarks_of_the_index_have_names_of_their_own(gldv2: Path) -> None:
    """The index numbers its landmarks apart from the training pictures."""
    categories = "landmark_id,category\n9,http://commons.wikimedia.org/wiki/Category:Pont_Neuf\n"
    (gldv2 / "index_label_to_category.csv").write_text(categories)
    assert open_data(gldv2).names()["9"] == "Hawa Mahal"
    assert open_data(gldv2).names("index.csv") == {"9": "Pont Neuf"}
    assert open_data(gldv2).names("test.csv") == {}


ATTRIBUTION = "id,url,author,license,title\n"


def told(data: PhotographSet, list_name: str) -> dict[str, Credit]:
    """Return the credits of a list by picture."""
    rows = data.credits(list_name).to_pylist()
    return {row.pop("id"): Credit(**row) for row in rows}


def test_credits_are_those_of_the_lists_split(gldv2: Path) -> None:
    """Of each kind of list from its own file; what is empty is not told, and quotes are csv's."""
    line = 'aaa1,http://x/1,"Ann, ""A."" B",CC BY 3.0,File:A.jpg\nbbb1,,,,\n'
    write(gldv2 / "train_attribution.csv", ATTRIBUTION + line)
    write(gldv2 / "index_attribution.csv", "title,id,license,author,url\nT,iii1,L,A,U\n")
    data = open_data(gldv2)
    known = {
        "aaa1": Credit('Ann, "A." B', "CC BY 3.0", "File:A.jpg", "http://x/1"),
        "bbb1": Credit(None, None, None, None),
    }
    assert told(data, "train_clean.csv") == known
    assert told(data, "index.csv") == {"iii1": Credit("A", "L", "T", "U")}


def test_a_folder_without_a_file_of_credits_tells_none(gldv2: Path) -> None:
    """Absent is fine, and a faulty file is refused with its line."""
    assert told(open_data(gldv2), "train.csv") == {}
    path = write(gldv2 / "train_attribution.csv", ATTRIBUTION + "aaa1,u,a,l,t\nccc1,u\n")
    with pytest.raises(CatalogError, match=r"line 3: 2 fields where 5") as caught:
        open_data(gldv2).credits("train.csv")
    assert caught.value.path == path
    write(path, "id,url,author\n")
    with pytest.raises(CatalogError, match="no column license, title"):
        open_data(gldv2).credits("train.csv")


def test_a_list_written_by_a_spreadsheet_is_read(gldv2: Path) -> None:
    """A byte order mark, Windows line ends and quotes around everything do no harm."""
    (gldv2 / "mine.csv").write_bytes(b'\xef\xbb\xbf"landmark_id","images"\r\n"9","aaa1 bbb1"\r\n')
    (gldv2 / "rows.csv").write_bytes(b'\xef\xbb\xbf"id","landmark_id"\r\n"aaa1","9"\r\n')
    data = open_data(gldv2)
    assert [(p.id, p.landmark_id) for p in data.gallery("mine.csv")] == [
        ("aaa1", "9"),
        ("bbb1", "9"),
    ]
    assert [(p.id, p.landmark_id) for p in data.gallery("rows.csv")] == [("aaa1", "9")]


def test_a_landmark_of_ten_thousand_pictures_is_read(gldv2: Path) -> None:
    """The longest rows of GLDv2 pass the field limit of Python's csv module."""
    ids = " ".join(f"{number:016x}" for number in range(10_000))
    write(gldv2 / "train_clean.csv", f"landmark_id,images\n138982,{ids}\n")
    assert len(open_data(gldv2).gallery()) == 10_000


@pytest.mark.parametrize(
    ("list_text", "reason"),
    [
        ("id,landmark_id\naaa1,1\naaa1,2\n", "line 3: picture aaa1 is listed twice"),
        ("id,landmark_id\naaa1,\n", "line 2: picture aaa1 has no landmark_id"),
        ("id,landmark_id\naaa1\n", "line 2: 1 fields where 2 are expected"),
        ("id,landmark_id\n../../etc/passwd,1\n", "line 2: '../../etc/passwd' is no picture id"),
        ("landmark_id,images\n\n7\n", "line 3: 1 fields where 2 are expected"),
        ("name,landmark_id\naaa1,1\n", "line 1: no column id; it has name, landmark_id"),
        ("id,landmark_id\n", "it lists no pictures"),
        ("", "line 1: no column id; it has none"),
    ],
)
def test_a_faulty_list_is_refused_with_its_line(gldv2: Path, list_text: str, reason: str) -> None:
    """Every refusal names the file, and the line where there is one."""
    path = write(gldv2 / "mine.csv", list_text)
    with pytest.raises(CatalogError) as caught:
        open_data(gldv2).gallery("mine.csv")
    assert caught.value.path == path
    assert reason in caught.value.reason


def test_a_list_that_is_not_text_is_refused(gldv2: Path) -> None:
    """A picture given as a list says so, and does not end in a decoding error."""
    (gldv2 / "mine.csv").write_bytes(b"id,landmark_id\n\xff\xd8\xff\xe0")
    with pytest.raises(CatalogError, match="not text"):
        open_data(gldv2).gallery("mine.csv")


def test_a_missing_list_is_refused_by_name(gldv2: Path) -> None:
    """A misspelled list is a sentence with its path."""
    with pytest.raises(CatalogError, match=r"clena\.csv"):
        open_data(gldv2).gallery("clena.csv")


def test_each_folder_is_a_landmark(folders: Path) -> None:
    """A folder's name is id and name, ids are paths below it, hidden and foreign files left out."""
    data = open_data(folders)
    assert data.layout == "folders"
    assert [(p.landmark_id, p.id, p.path.name) for p in data.gallery()] == [
        ("9", "9/a", "a.gif"),
        ("9", "9/b", "b.webp"),
        ("10", "10/1", "1.png"),
        ("Taj Mahal", "Taj Mahal/1", "1.jpg"),
        ("Taj Mahal", "Taj Mahal/at night/1", "1.JPEG"),
    ]
    assert data.names() == {"9": "9", "10": "10", "Taj Mahal": "Taj Mahal"}


def test_every_picture_of_the_folders_is_a_query(folders: Path) -> None:
    """A labeled folder can be judged by; a picture outside the folders shows no landmark."""
    write(folders / "street.jpg")
    assert [(q.id, q.landmark_ids) for q in open_data(folders).queries()] == [
        ("10/1", ("10",)),
        ("9/a", ("9",)),
        ("9/b", ("9",)),
        ("Taj Mahal/1", ("Taj Mahal",)),
        ("Taj Mahal/at night/1", ("Taj Mahal",)),
        ("street", ()),
    ]


def test_pictures_that_differ_only_in_extension_keep_it(folders: Path) -> None:
    """Two files may not share one id."""
    write(folders / "10/1.jpg")
    ids = [picture.id for picture in open_data(folders).gallery()]
    assert ids[2:4] == ["10/1.jpg", "10/1.png"]


def test_a_gallery_refuses_pictures_of_no_landmark(folders: Path) -> None:
    """A picture beside the landmark folders is named, not silently left out."""
    write(folders / "street.jpg")
    with pytest.raises(CatalogError, match=r"street\.jpg"):
        open_data(folders).gallery()


def test_a_list_of_a_folder_takes_some_of_its_pictures(folders: Path, tmp_path: Path) -> None:
    """Ids are paths without extensions; what the list says of a picture outranks its folder."""
    mine = tmp_path / "mine.csv"
    mine.write_text("id,landmark_id\nTaj Mahal/at night/1,Taj Mahal\n9/b,10\n")
    assert [(p.id, p.landmark_id, p.path.name) for p in open_data(folders).gallery(str(mine))] == [
        ("9/b", "10", "b.webp"),
        ("Taj Mahal/at night/1", "Taj Mahal", "1.JPEG"),
    ]


@pytest.mark.parametrize(
    ("lines", "reason"),
    [("9/a,9\n9/c,9\n", "line 3: there is no picture 9/c"), ("9/a,9\n9/a,10\n", "listed twice")],
)
def test_a_faulty_list_of_a_folder_is_refused(
    folders: Path, tmp_path: Path, lines: str, reason: str
) -> None:
    """A picture that is not there, or there twice, is named."""
    mine = tmp_path / "mine.csv"
    mine.write_text("id,landmark_id\n" + lines)
    with pytest.raises(CatalogError, match=reason):
        open_data(folders).gallery(str(mine))


def test_train_and_test_are_not_taken_for_landmarks(tmp_path: Path) -> None:
    """A folder of parts with landmarks below each is refused, with the one to give."""
    write(tmp_path / "train/Taj Mahal/1.jpg")
    write(tmp_path / "test/Taj Mahal/1.jpg")
    with pytest.raises(CatalogError, match="parts of a data set"):
        open_data(tmp_path)
    assert len(open_data(tmp_path / "train").gallery()) == 1


def test_a_folder_linked_into_itself_is_walked_once(folders: Path) -> None:
    """Links are followed, circles are not."""
    (folders / "9/again").symlink_to(folders)
    assert len(open_data(folders).gallery()) == 5


def test_a_folder_without_pictures_is_refused_in_words(tmp_path: Path) -> None:
    """What was looked for is said, and what is there instead."""
    write(tmp_path / "Taj Mahal/1.TIFF")
    with pytest.raises(CatalogError, match=r"train\.csv.*JPEG, .*passed over: 1 TIFF"):
        open_data(tmp_path)


@pytest.mark.parametrize("name", ["nowhere", "a_file.txt"])
def test_data_must_be_a_folder(tmp_path: Path, name: str) -> None:
    """A missing folder and a file are each refused."""
    write(tmp_path / "a_file.txt")
    with pytest.raises(CatalogError, match=name):
        open_data(tmp_path / name)


def test_a_walked_folder_gives_stems_sorted_by_path(tmp_path: Path) -> None:
    """The id of a picture to predict is its file name without the extension."""
    write(tmp_path / "b/2.jpg")
    write(tmp_path / "a/3.png")
    assert [p.id for p in list_pictures(tmp_path)] == ["3", "2"]


def test_pictures_of_one_file_name_are_told_apart_by_their_paths(tmp_path: Path) -> None:
    """A submission has one row for each id; then all ids are paths, as those of a build."""
    for name in ("b/1.png", "a/1.jpg", "a/2.jpg", "a/2.JPG"):
        write(tmp_path / name)
    names = ["a/1", "a/2.JPG", "a/2.jpg", "b/1"]
    assert [p.id for p in list_pictures(tmp_path)] == names
    listed = write(tmp_path / "mine.txt", "b/1.png\na/2.jpg\na/1.jpg\n")
    assert [(p.id, p.path) for p in list_pictures(listed)] == [
        ("b/1", tmp_path / "b/1.png"),
        ("a/2", tmp_path / "a/2.jpg"),
        ("a/1", tmp_path / "a/1.jpg"),
    ]


@pytest.mark.skipif(not CASES.is_dir(), reason="no public cases beside this checkout")
def test_a_deep_folder_of_equal_names_is_a_list_of_distinct_ids() -> None:
    """Whatever is called the same, for prediction and for a gallery alike."""
    folder = CASES / "same_names" / "deep"
    names = [
        "A.jpg/x",
        "A/2019/summer/raw/IMG_1",
        "A/2020/IMG_1.JPG",
        "A/2020/IMG_1.jpg",
        "A/2020/IMG_1.png",
    ]
    assert [p.id for p in list_pictures(folder)] == names
    assert sorted(p.id for p in open_data(folder).gallery()) == names


def test_a_list_of_paths_is_relative_to_itself(tmp_path: Path) -> None:
    """Paths are taken as they stand, in the list's order, missing files included."""
    source = write(tmp_path / "mine.txt", "b/2.jpg\n\na/1.heic\n")
    assert list_pictures(source) == [
        Photograph("2", tmp_path / "b/2.jpg", None),
        Photograph("1", tmp_path / "a/1.heic", None),
    ]


def test_a_list_of_ids_is_looked_up_in_the_gldv2_folders(gldv2: Path) -> None:
    """A list's name tells the folder; for other names the first picture does."""
    write(gldv2 / "index/q/q/q/qqq1.jpg")
    named = write(gldv2 / "test.csv", "id\nqqq1\nzzz1\n")
    other = write(gldv2 / "other.csv", "id\nqqq1\n")
    (gldv2 / "test").mkdir()
    assert list_pictures(other)[0].path == gldv2 / "index/q/q/q/qqq1.jpg"
    (gldv2 / "index/q/q/q/qqq1.jpg").unlink()
    assert [p.path for p in list_pictures(named)] == [
        gldv2 / "test/q/q/q/qqq1.jpg",
        gldv2 / "test/z/z/z/zzz1.jpg",
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a/1.jpg\na/1.jpg\n", "listed twice"),
        ("a/1.jpg\nabc\n", "mixes ids and paths"),
        ("abc\nno id\n", "line 2"),
        ("abc\n", "no picture of the id abc"),
        ("", "lists no pictures"),
    ],
)
def test_a_faulty_list_of_pictures_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    """Lists for prediction are checked before anything is embedded."""
    with pytest.raises(CatalogError, match=reason):
        list_pictures(write(tmp_path / "mine.txt", text))


def test_one_picture_is_a_list_of_one(tmp_path: Path) -> None:
    """A single picture can be asked about without a list."""
    path = write(tmp_path / "IMG_1.JPG")
    assert list_pictures(path) == [Photograph("IMG_1", path, None)]


def test_numbers_sort_as_numbers_of_any_length() -> None:
    """Leading zeros and more digits than Python converts do no harm."""
    ids = ["b", "10", "9" * 5000, "007", "7", "a"]
    assert sorted(ids, key=landmark_order) == ["007", "7", "10", "9" * 5000, "a", "b"]


@pytest.mark.photographs
def test_the_real_lists_agree_with_the_files(gldv2_mini: Path) -> None:
    """On real photographs every listed file is there, and the two train lists agree."""
    data = open_data(gldv2_mini)
    gallery, queries = data.gallery(), data.queries()
    assert len(gallery) == 2926
    assert gallery == data.gallery("train.csv")
    assert len(queries) == 740
    assert sum(not query.landmark_ids for query in queries) == 236
    assert all(picture.path.is_file() for picture in [*gallery, *queries])
    assert set(data.names()) == {picture.landmark_id for picture in gallery}
    assert [p.id for p in list_pictures(gldv2_mini / "test.csv")] == [q.id for q in queries]
