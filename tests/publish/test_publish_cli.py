"""`hf-smalldata publish`: shown first, asked about, uploaded whole or not at all, and never a row."""

from __future__ import annotations

import shutil

import pytest
from huggingface_hub import constants

from hf_smalldata.reporting import run_content
from hf_smalldata.run import read_json, write_json

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")  # of huggingface_hub about httpx

MODEL = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "README.md"}
OURS = {"smalldata/recipe.yaml", "smalldata/metrics.json", "smalldata/environment.json"}


def paths(hub, name="me/topics") -> set[str]:
    return set(hub.repos[name].files)


def test_a_dry_run_shows_files_licence_and_card_and_touches_no_network(command, run, hub):
    (run.folder / "train.csv").write_text("text,label\nsecret,1\n")
    code, output, _ = command("publish", run.folder, "--repo", "me/topics", "--dry-run")
    assert code == 0
    for word in (*MODEL, *OURS, "licence: cc-by-nc-4.0", "stays here: train.csv", "pipeline_tag: text-classification"):
        assert word in output
    assert hub.asked == []


def test_a_run_goes_up_as_one_commit(command, run, hub):
    code, output, errors = command("publish", run.folder, "--repo", "me/topics", "--yes", "--private")
    assert (code, errors) == (0, "")
    assert f"published: {hub.url}/me/topics" in output
    assert paths(hub) == MODEL | OURS
    assert len(hub.repos["me/topics"].commits) == 1
    assert hub.repos["me/topics"].private
    assert hub.repos["me/topics"].files["model.safetensors"] == (run.folder / "model.safetensors").read_bytes()


def test_what_is_to_be_private_goes_into_no_public_repository(command, run, hub):
    words = ("publish", run.folder, "--repo", "me/topics", "--yes")
    assert command(*words)[0] == 0
    before, hub.asked[:] = dict(hub.repos["me/topics"].files), []
    code, _, errors = command(*words, "--private")
    assert code == 2
    assert "error: me/topics is there already and public, and --private is of new repositories; make it" in errors
    assert {asked for asked, _ in hub.asked} == {"GET"}
    assert hub.repos["me/topics"].files == before
    hub.repos["me/topics"].private = True
    assert command(*words, "--private")[0] == 0


def test_no_row_no_id_no_path_and_no_token_goes_up(command, run, hub, topics, hub_server):
    _, output, errors = command("publish", run.folder, "--repo", "me/topics", "--yes")
    everything = b"".join(hub.repos["me/topics"].files.values())
    inputs = [line.rpartition(",")[0] for line in topics.read_text().splitlines()[1:]]
    assert not any(text.encode() in everything for text in inputs)
    assert not any(row_id.encode() in everything for row_id in run.rows["test"])
    assert str(run.folder.parent).encode() not in everything
    assert run.metrics["model"].encode() not in everything
    assert hub_server.TOKEN not in output + errors
    assert hub_server.TOKEN.encode() not in everything


def test_ids_and_errors_go_up_only_if_asked_for(command, run, hub):
    command("publish", run.folder, "--repo", "me/topics", "--yes", "--row-ids", "--errors")
    more = {"smalldata/rows.json", "smalldata/predictions.parquet", "smalldata/report.html"}
    assert paths(hub) == MODEL | OURS | more


def test_an_adapter_goes_up_alone_and_takes_the_merged_weights_away(command, hub_run, hub):
    command("publish", hub_run.folder, "--repo", "me/topics", "--yes")
    assert {"adapter/adapter_model.safetensors", "model.safetensors"} <= paths(hub)
    hub.repos["me/topics"].files["LICENSE"] = b"mine"
    code, output, _ = command("publish", hub_run.folder, "--repo", "me/topics", "--yes", "--adapter-only")
    assert code == 0
    assert "these are taken away: " in output
    assert {"adapter_config.json", "adapter_model.safetensors", "config.json", "LICENSE"} <= paths(hub)
    assert not {"model.safetensors", "adapter/adapter_model.safetensors"} & paths(hub)


def test_a_connection_cut_in_mid_upload_goes_on(command, run, hub):
    hub.cut_uploads = 2
    code, _, _ = command("publish", run.folder, "--repo", "me/topics", "--yes")
    assert code == 0
    assert paths(hub) == MODEL | OURS


def test_a_commit_that_is_cut_is_sent_again_without_the_weights(command, run, hub):
    hub.cut_commits = 1
    code, _, errors = command("publish", run.folder, "--repo", "me/topics", "--yes")
    assert code == 0
    assert "the connection broke; once more" in errors
    assert len(hub.received) == len(set(hub.received)) == 1
    assert len(hub.repos["me/topics"].commits) == 1


def test_a_connection_that_stays_broken_leaves_the_repository_as_it_was(command, run, hub):
    command("publish", run.folder, "--repo", "me/topics", "--yes")
    before = dict(hub.repos["me/topics"].files)
    (run.folder / "model.safetensors").write_bytes((run.folder / "model.safetensors").read_bytes() + b"\0")
    hub.cut_uploads = 10**6
    code, _, errors = command("publish", run.folder, "--repo", "me/topics", "--yes")
    assert code == 2
    assert "broke" in errors
    assert "me/topics is as it was. `hf-smalldata publish` goes on where this ended" in errors
    assert "Traceback" not in errors
    assert hub.repos["me/topics"].files == before
    hub.cut_uploads = 0
    assert command("publish", run.folder, "--repo", "me/topics", "--yes")[0] == 0
    assert len(hub.repos["me/topics"].commits) == 2


def test_a_user_is_asked_and_may_say_no(command, run, hub, monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.confirm", lambda _: False)
    code, output, _ = command("publish", run.folder, "--repo", "me/topics")
    assert code == 0
    assert "nothing was uploaded" in output
    assert hub.repos == {}


def test_the_recipe_says_where_and_the_command_line_adds_to_it(command, run, hub):
    with run.part("recipe.yaml").open("a") as recipe:
        recipe.write("publish: {repo: me/planned, private: true, row_ids: true}\n")
    assert command("publish", run.folder, "--yes")[0] == 0
    assert hub.repos["me/planned"].private
    assert "smalldata/rows.json" in paths(hub, "me/planned")
    assert b"me/planned" not in hub.repos["me/planned"].files["smalldata/recipe.yaml"]


def test_of_a_study_its_model_goes_up_with_the_verdicts_on_the_card(command, run, hub, tmp_path):
    study = tmp_path / "study"
    shutil.copytree(run.folder, study / "model")
    write_json(study / "results.json", {**run_content(run), "title": "a study"})
    assert command("publish", study, "--repo", "me/topics", "--yes")[0] == 0
    assert paths(hub) == MODEL | OURS
    assert b"## The study that favoured this model" in hub.repos["me/topics"].files["README.md"]


def test_an_export_within_the_run_goes_up_with_it(command, run, hub):
    (run.folder / "onnx").mkdir()
    for name in ("model.onnx", "export.json", "rows.csv"):
        (run.folder / "onnx" / name).write_bytes(b"{}")
    assert command("publish", run.folder, "--repo", "me/topics", "--yes")[0] == 0
    assert paths(hub) == MODEL | OURS | {"onnx/model.onnx", "onnx/export.json"}


def test_a_card_of_ones_own_is_taken_if_its_figures_are_the_runs(command, run, hub, tmp_path):
    own = tmp_path / "own.md"
    own.write_text("---\npipeline_tag: text-classification\n---\n# Mine\n\nBest of all: 0.999.\n")
    code, _, errors = command("publish", run.folder, "--repo", "me/topics", "--yes", "--card", own)
    assert code == 2
    assert "0.999: in no file of the Run" in errors
    own.write_text(own.read_text().replace("0.999", f"{run.metrics['results']['model']['accuracy']['value']:.2f}"))
    assert command("publish", run.folder, "--repo", "me/topics", "--yes", "--card", own)[0] == 0
    assert b"# Mine" in hub.repos["me/topics"].files["README.md"]


@pytest.mark.parametrize(("licence", "more"), [("mit", []), ("[mit, apache-2.0]", []), ("cc-by-nc-4.0", ["mit"])])
def test_a_card_of_ones_own_keeps_the_licence_of_the_base_model(licence, more, command, run, hub, tmp_path):
    own = tmp_path / "own.md"
    own.write_text(f"---\npipeline_tag: text-classification\nlicense: {licence}\n---\n# Mine\n")
    words = ["publish", run.folder, "--repo", "me/topics", "--yes", "--card", own]
    code, _, errors = command(*words, *(["--license", *more] if more else []))
    assert (code, "under cc-by-nc-4.0, which what is made of it keeps; got mit" in errors) == (2, True)
    assert hub.repos == {}
    own.write_text(own.read_text().replace(licence, "cc-by-nc-4.0"))
    assert command(*words)[0] == 0


def test_a_published_repository_is_a_run_that_can_be_opened(command, run, hub, tmp_path):
    command("publish", run.folder, "--repo", "me/topics", "--yes")
    for name, content in hub.repos["me/topics"].files.items():
        (tmp_path / "got" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "got" / name).write_bytes(content)
    assert read_json(tmp_path / "got" / "smalldata" / "metrics.json")["results"] == run.metrics["results"]
    code, output, _ = command("predict", tmp_path / "got", "the cat saw a dog")
    assert code == 0
    assert output.rstrip().endswith("the cat saw a dog")


@pytest.mark.parametrize(("words", "told"), [
    ([], "give --repo owner/name"),
    (["--repo", "topics"], "--repo: expected owner/name"),
    (["--repo", "me/../x"], "--repo: "),
    (["--repo", "me/topics", "--license", "mit"], "cc-by-nc-4.0, which what is made of it keeps; got mit"),
    (["--repo", "me/topics", "--adapter-only"], "is not on the Hub, so nobody else could load the adapter"),
    (["--repo", "me/topics"], "nobody is there to be asked; pass --yes"),
    (["--repo", "you/topics", "--yes"], "the Hub refuses this token for you/topics (HTTP 403)"),
    (["--repo", "me/topics", "--card", "none.md"], "--card: no file none.md"),
])  # fmt: skip
def test_bad_input_is_one_clear_message(words, told, command, run, hub):
    code, _, errors = command("publish", run.folder, *words)
    assert code == 2
    assert told in errors
    assert hub.repos == {}


def test_without_a_token_offline_or_with_a_wrong_one_the_user_hears_what_to_do(command, run, hub, monkeypatch):
    words = ("publish", run.folder, "--repo", "me/topics", "--yes")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    code, _, errors = command(*words)
    assert (code, "hf auth login" in errors, "hf_wrong" in errors) == (2, True, False)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("hf_smalldata.publish.hub.get_token", lambda: None)
    code, _, errors = command(*words)
    assert (code, "not logged in to the Hub; run `hf auth login`" in errors) == (2, True)
    monkeypatch.setenv("HF_TOKEN", "hf_any")
    monkeypatch.setattr("hf_smalldata.publish.hub.get_token", lambda: "hf_any")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    code, _, errors = command(*words)
    assert (code, "HF_HUB_OFFLINE is set; unset it to publish" in errors) == (2, True)


def test_a_folder_that_is_no_run_or_a_study_without_a_model_is_told(command, tmp_path, hub):
    code, _, errors = command("publish", tmp_path, "--repo", "me/x")
    assert (code, "not a Run" in errors) == (2, True)
    (tmp_path / "results.json").write_text("{}")
    code, _, errors = command("publish", tmp_path, "--repo", "me/x")
    assert (code, "this study has no model; run it again with --refit" in errors) == (2, True)


def test_a_local_path_within_a_file_of_the_model_stops_it(command, run, hub):
    config = (run.folder / "config.json").read_text()
    (run.folder / "config.json").write_text(config.replace("{", f'{{"trained_in": "{run.folder.resolve()}",', 1))
    code, _, errors = command("publish", run.folder, "--repo", "me/topics", "--yes")
    assert code == 2
    assert "config.json: tells the local path" in errors
