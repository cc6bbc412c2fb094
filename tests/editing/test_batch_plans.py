"""What a batch is told to do: ranges, tables of strengths, names of results."""

import json

import pytest

from editing import batch, provenance
from editing.batching import desk, planning, strengths
from editing.faces import photo as photos
from editing.plans import parse_range
from editing.types import Recipe
from stylegan2.errors import UsageError
from tests.editing import fakes
from tests.editing.fakes import write_photo
from tests.editing.test_batch import files


@pytest.fixture
def album(tmp_path):
    folder = tmp_path / "in"
    for seed, name in enumerate(("a.png", "b.jpg", "sub/c.png")):
        write_photo(folder / name, seed)
    return folder


def go(command, album, out, *args):
    code, stdout, stderr = command(batch.main, album, "--aligned", "--json", "--out", out, *args)
    return code, json.loads(stdout) if stdout else None, stderr


def results(out):
    return {name for name in files(out) if name != desk.REPORT}


def amounts(path):
    return [(step.parameters["name"], step.strength) for step in provenance.load_recipe(path).steps]


@pytest.fixture
def inverted(toy, monkeypatch):
    """A list that grows with every inversion."""
    calls = []

    def counted(*args, **options):
        calls.append(1)
        return fakes.fake_strategy(*args, **options)

    monkeypatch.setitem(toy.STRATEGIES, "tune", counted)
    return calls


# ---------------------------------------------------------------------------------------------------- ranges


def test_a_range_makes_a_result_for_every_value_and_inverts_once(command, inverted, album, tmp_path):
    code, report, _ = go(command, album, tmp_path / "out", "--set", "smile=-1:1:1", "--set", "age=2")
    assert code == 0 and (report["photos"], report["planned"], report["done"]) == (3, 9, 9)
    assert len(inverted) == 3
    assert results(tmp_path / "out") == {
        f"{stem}.smile{value}.{suffix}"
        for stem, suffix in (("a", "png"), ("b", "jpg"), ("sub/c", "png"))
        for value in ("-1", "+0", "+1")
    }
    assert amounts(tmp_path / "out" / "a.smile-1.png") == [("age", 2), ("smile", -1)]
    assert [r["strengths"] for r in report["results"][:3]] == [{"smile": -1}, {"smile": 0}, {"smile": 1}]
    plain = tmp_path / "plain"
    go(command, album, plain, "--set", "age=2", "--set", "smile=1")
    assert (plain / "a.png").read_bytes() == (tmp_path / "out" / "a.smile+1.png").read_bytes()


def test_several_ranges_make_their_product(command, inverted, album, tmp_path):
    _, report, _ = go(command, album / "a.png", tmp_path / "out", "--set", "smile=0:1:0.5", "--set", "age=-10:0:10")
    assert report["done"] == 6 and len(inverted) == 1
    assert results(tmp_path / "out") == {
        f"a.smile{smile}.age{age}.png" for smile in ("+0.0", "+0.5", "+1.0") for age in ("-10", "+00")
    }
    assert amounts(tmp_path / "out" / "a.smile+0.5.age-10.png") == [("smile", 0.5), ("age", -10)]


def test_only_the_missing_result_is_made_again(command, inverted, album, tmp_path):
    out = tmp_path / "out"
    go(command, album, out, "--set", "smile=-1:1:1", "--keep-inversions")
    before = files(out)
    (out / "a.smile+0.png").unlink()
    inverted.clear()
    code, report, _ = go(command, album, out, "--set", "smile=-1:1:1", "--keep-inversions")
    assert code == 0 and (report["done"], report["skipped"]) == (1, 8) and len(inverted) == 1
    after = files(out)
    assert {name: content for name, (content, _) in before.items() if name != desk.REPORT} == {
        name: content for name, (content, _) in after.items() if name != desk.REPORT
    }
    assert all(after[name] == before[name] for name in before if "+0" not in name and name.endswith(("png", "jpg")))
    assert (out / "a.png.inversion").exists() and len(list(out.rglob("*.inversion"))) == 3
    inverted.clear()
    _, report, _ = go(command, album, out, "--set", "smile=0:2:1")  # what both runs want is there
    assert (report["done"], report["skipped"]) == (3, 6)


def test_tags_have_as_many_digits_and_nothing_that_a_file_system_refuses():
    def tags(text):
        part = parse_range(text)
        return [planning.tag(value, part) for value in part.values]

    assert tags("smile=-3:3:3") == ["smile-3", "smile+0", "smile+3"]
    assert tags("yaw=0:10:5") == ["yaw+00", "yaw+05", "yaw+10"]
    assert tags("yaw=-0.5:0.25:0.25") == ["yaw-0.50", "yaw-0.25", "yaw+0.00", "yaw+0.25"]
    assert tags("x=0:0.1:0.05") == sorted(tags("x=0:0.1:0.05"))
    assert planning.tag(1.0, type("P", (), {"name": 'a/b\\c:*?"', "values": (1.0,)})) == "a_b_c____+1"


def test_results_of_two_photos_never_share_a_name(album, tmp_path):
    for name in ("a.gif", "a.smile+1.png", "A.bmp"):
        write_photo(album / "x.png")
        (album / name).write_bytes((album / "x.png").read_bytes())
    places = planning.find_places(album, tmp_path / "out")
    jobs = planning.plan_jobs(places, Recipe(), [parse_range("smile=0:1:1")])
    targets = [str(result.target).lower() for job in jobs for result in job.results]
    assert len(set(targets)) == len(targets) == 2 * 7
    with pytest.raises(UsageError, match="choose another folder"):  # results would be the next run's photos
        planning.plan_jobs(planning.find_places(album, album), Recipe(), [parse_range("smile=2:3:1")])


def test_too_many_results_are_refused(album, tmp_path):
    places = planning.find_places(album, tmp_path / "out")
    ranges = [parse_range("smile=0:10:1"), parse_range("age=0:9:1")]
    with pytest.raises(UsageError, match="110 results of every photo; at most 100"):
        planning.plan_jobs(places, Recipe(), ranges)


@pytest.mark.parametrize(
    ("sets", "says"),
    [
        (["smile=1:2:x"], "finite"),
        (["smile=3:1:1"], "never gets from 3 to 1"),
        (["smlie=0:1:1"], "did you mean smile"),
        (["smile=0:1:1", "smile=2"], "--set smile is given twice"),
        (["smile=0:1:1", "smile=0:1:0.5"], "--set smile is given twice"),
        (["smile=0:1:1:1"], "A range looks like"),
    ],
)
def test_bad_ranges(command, toy, album, tmp_path, sets, says):
    code, _, stderr = go(command, album, tmp_path / "out", *(word for text in sets for word in ("--set", text)))
    assert code == 2 and says in stderr and len(stderr.strip().splitlines()) == 1


def test_a_range_that_leaves_the_safe_range_gets_a_note(command, toy, album, tmp_path):
    _, _, stderr = go(command, album, tmp_path / "out", "--set", "smile=0:4:2")
    assert stderr.strip() == "note: smile=4 is outside its safe range -3 to +3."


# ---------------------------------------------------------------------------------------------------- tables


def written(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "table.csv"
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_every_photo_gets_the_strengths_of_its_line(command, toy, album, tmp_path, encoding):
    table = written(tmp_path, 'photo,smile,age\r\n"sub/c.png",-1.5,\r\n\r\n./a.png, 2 ,3\r\n', encoding)
    code, report, stderr = go(command, album, tmp_path / "out", "--strengths", table)
    assert code == 0 and results(tmp_path / "out") == {"a.png", "sub/c.png"}
    assert stderr.strip() == "note: 1 of 3 photos are not in the table and are left out, b.jpg first."
    assert amounts(tmp_path / "out" / "a.png") == [("smile", 2), ("age", 3)]
    assert amounts(tmp_path / "out" / "sub" / "c.png") == [("smile", -1.5)]
    assert {r["photo"]: r["strengths"] for r in report["results"]} == {
        "a.png": {"smile": 2, "age": 3},
        "sub/c.png": {"smile": -1.5},
    }
    table.write_text("photo,smile,age\nsub/c.png,-1.5,\na.png,1,3\n")  # another strength: that photo alone
    _, report, _ = go(command, album, tmp_path / "out", "--strengths", table)
    assert {r["photo"]: r["status"] for r in report["results"]} == {"a.png": "done", "sub/c.png": "skipped"}


def test_a_table_comes_after_recipe_set_and_range(command, toy, album, tmp_path):
    (tmp_path / "recipe.json").write_text('{"age": 1}')
    table = written(tmp_path, "photo,age\na.png,0.5\nb.jpg,\n")
    args = ("--recipe", tmp_path / "recipe.json", "--set", "smile=0:1:1", "--strengths", table)
    code, report, _ = go(command, album, tmp_path / "out", *args)
    assert code == 0 and report["done"] == 4
    assert amounts(tmp_path / "out" / "a.smile+1.png") == [("age", 1), ("smile", 1), ("age", 0.5)]
    assert amounts(tmp_path / "out" / "b.smile+1.jpg") == [("age", 1), ("smile", 1)]


def test_a_line_without_strengths_leaves_the_photo_as_it_is(command, toy, album, tmp_path):
    code, _, _ = go(command, album, tmp_path / "out", "--strengths", written(tmp_path, "photo,age\na.png,\n"))
    assert code == 0
    before, after = photos.load(album / "a.png"), photos.load(tmp_path / "out" / "a.png")
    assert (before.rgb == after.rgb).all() and not provenance.is_marked(after)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("photo,smile\n", "names no photo"),
        ("name,smile\na.png,1\n", "Line 1 of {t} has no column 'photo'"),
        ("photo;smile\na.png;1\n", "no column 'photo': it names the columns, with commas"),
        ("photo,smlie\na.png,1\n", "Line 1 of {t}: There are no edits called 'smlie': did you mean smile?"),
        ("photo,smile,smile\na.png,1,2\n", "two columns 'smile'"),
        ("photo,smile,\na.png,1,2\n", "no edits called ''"),
        ("photo,smile\nb.jpg,1\naa.png,1\n", "Line 3 of {t}: There are no photos called 'aa.png': did you mean a.png"),
        ("photo,smile\n,1\n", "Line 2 of {t}: it names no photo"),
        ("photo,smile\na.png,1\n\n./a.png,2\n", "Line 4 of {t}: ./a.png has a line already, line 2."),
        ("photo,smile\na.png,two\n", "Line 2 of {t}: The strength of 'smile' must be a finite number, not 'two'"),
        ("photo,smile\na.png,inf\n", "finite"),
        ('photo,smile\n"a.png",1\nb.jpg,"1,5"\n', "Line 3 of {t}: The strength of 'smile'"),
        ("photo,smile\na.png,1,2\n", "Line 2 of {t} has 3 cells, and the first line has 2"),
        ("photo,smile,age\na.png,1\n", "has 2 cells"),
        ('photo,smile\na.png,1\n"b.jpg,1\n', "cannot be read as CSV"),
        ("photo,smile\n\udcff.png,1\n", "Line 2 of {t} is not UTF-8"),
    ],
)
def test_a_bad_table_is_one_sentence_before_anything_starts(command, toy, album, tmp_path, monkeypatch, text, says):
    from editing import session

    monkeypatch.setattr(session, "load_generator", lambda *_: pytest.fail("something slow has started"))
    table = tmp_path / "table.csv"
    table.write_bytes(text.encode("utf-8", "surrogateescape"))
    code, stdout, stderr = go(command, album, tmp_path / "out", "--strengths", table)
    assert code == 2 and stdout is None and says.format(t=table) in stderr
    assert len(stderr.strip().splitlines()) == 1 and not (tmp_path / "out").exists()


def test_a_table_that_is_not_there(command, toy, album, tmp_path):
    code, _, stderr = go(command, album, tmp_path / "out", "--strengths", tmp_path / "none.csv")
    assert code == 2 and "Cannot read the table" in stderr


def test_names_are_found_however_they_are_spelled(tmp_path):
    table = written(tmp_path, "photo,smile\nzo\u0065\u0308.png,1\nsub\\b.png,2\n")
    assert strengths.read(table, ["zo\u00eb.png", "sub/b.png"], ["smile"]) == {
        "zo\u00eb.png": {"smile": 1},
        "sub/b.png": {"smile": 2},
    }
