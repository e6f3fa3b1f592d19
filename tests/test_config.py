"""Configuration: wrong keys and types are refused, and the known keys are listed."""

import pytest

from seaice_lab import options
from seaice_lab.config import Config, FitConfig, read_yaml
from seaice_lab.emissivity.settings import EmissivityConfig
from seaice_lab.errors import InputError
from seaice_lab.parameters import (
    list_settings,
    load_yaml,
    parse_parameters,
    replace_values,
    type_text,
)
from seaice_lab.surrogate.losses import GLOBAL_MEAN_WEIGHT
from seaice_lab.surrogate.settings import PrepareConfig, TrainConfig


class Inner(Config):
    """Nested values."""

    epochs: int = 3


class Outer(Config):
    """All values."""

    width: int = 16
    fit: Inner = Inner()


def test_an_unknown_key_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match=r"--p: unknown key 'widht'; .*are width, fit"):
        Outer.parse({"widht": 3}, "--p")
    with pytest.raises(InputError, match=r"unknown key 'fit.epoch'; the known ones are epochs"):
        Outer.parse({"fit": {"epoch": 3}}, "--p")


def test_a_wrong_type_is_refused_with_the_value_found():
    with pytest.raises(InputError, match=r"x.yaml: width is 'wide', but: .*integer"):
        Outer.parse({"width": "wide"}, "x.yaml")


def test_a_list_where_keys_are_expected_is_refused():
    message = r"x.yaml: configuration is \[1\], but: expected 'key: value' pairs out of width, fit"
    with pytest.raises(InputError, match=message):
        Outer.parse([1], "x.yaml")
    with pytest.raises(InputError, match=r"fit is 3, but: expected .* pairs out of epochs"):
        Outer.parse({"fit": 3}, "x.yaml")
    with pytest.raises(InputError, match="1 is 1, but: Keys should be strings"):
        Outer.parse({1: 2}, "x.yaml")


def test_what_is_written_reads_back_the_same(tmp_path):
    config = Outer(width=8, fit=Inner(epochs=9))
    (tmp_path / "c.yaml").write_text(config.to_yaml())
    assert Outer.read(tmp_path / "c.yaml") == config


def test_broken_and_missing_yaml_files_are_refused(tmp_path):
    (tmp_path / "c.yaml").write_text("a: [1,\nb: 2")
    with pytest.raises(InputError, match="c.yaml: is not valid YAML at line 2"):
        read_yaml(tmp_path / "c.yaml")
    (tmp_path / "l.yaml").write_text("- a\n- b")
    with pytest.raises(InputError, match="l.yaml: found list, expected 'key: value' pairs"):
        read_yaml(tmp_path / "l.yaml")
    with pytest.raises(InputError, match="d.yaml: cannot be read .*check the path"):
        read_yaml(tmp_path / "d.yaml")


NUMBERS = ["1e-3", "1E-3", "1.0e-3", "0.001", ".001", "+1e-3", " 0.001 "]


@pytest.mark.parametrize("text", NUMBERS)
def test_a_number_is_read_in_every_usual_form(text):
    values = parse_parameters([f"fit.learning_rate={text}"], TrainConfig)
    config = TrainConfig.parse({"store": "s"} | replace_values({}, values), "-p")
    assert config.fit.learning_rate == 0.001


@pytest.mark.parametrize("text", ["5", "5.0", "5e0", "005"])
def test_a_whole_number_is_read_in_every_usual_form(text):
    values = replace_values({}, parse_parameters([f"epochs={text}"], TrainConfig))
    assert TrainConfig.parse({"store": "s"} | values, "-p").fit.epochs == 5


TEXTS = """
007 2024 1e-3 true 12:30 2021-03-01 @moorings * %x `x` a#b a:b a=b [x {x ,x !x &x > | 'x "x"y x'
runs/Ü_ö/é my|run - ? no
""".split()


@pytest.mark.parametrize("text", [*TEXTS, "two words", "a: b", "a #b", "x\ty"])
def test_a_setting_that_takes_text_gets_the_text_as_it_stands(text, tmp_path):
    values = parse_parameters([f"store={text}"], TrainConfig)
    config = TrainConfig.parse(values, "-p")
    assert config.store == text
    (tmp_path / "config.yaml").write_text(config.to_yaml(), encoding="utf-8")
    assert TrainConfig.read(tmp_path / "config.yaml") == config


def test_text_may_be_quoted_and_null_is_none():
    values = parse_parameters(["store='a b'", "start_from=null", "window={inputs: 1}"], TrainConfig)
    assert values == {"store": "a b", "start_from": None, "window": {"inputs": 1}}
    assert parse_parameters(["forcing="], PrepareConfig) == {"forcing": None}


def test_the_home_folder_is_expanded_in_paths_only(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ana")
    assert TrainConfig(store="~/s.zarr", start_from="~/r").store == "/home/ana/s.zarr"
    assert TrainConfig(store="a/~/s").store == "a/~/s"
    assert PrepareConfig(state="~x").state == "~x"


def test_a_broken_value_is_refused_with_the_name_of_the_parameter():
    for pair in ("crop=[0,16", "fit.epochs=@3", "width=`4`", "network_options={a", "x=[*a]"):
        with pytest.raises(InputError, match=f"parameter {pair.split('=')[0]}=.*not valid YAML"):
            parse_parameters([pair], TrainConfig)
    for pair in ("epochs", "=3"):
        with pytest.raises(InputError, match="expected name=value"):
            parse_parameters([pair], TrainConfig)


def test_a_name_without_its_group_is_completed_if_no_other_setting_has_it():
    assert parse_parameters(["epochs=2"], TrainConfig) == {"fit.epochs": 2}
    assert parse_parameters(["version=2"], EmissivityConfig) == {"model.version": 2}
    assert parse_parameters(["steps=2"], EmissivityConfig) == {"steps": 2}  # not solve.*_steps
    assert parse_parameters(["network_options.dropout=1e-1"], TrainConfig) == {
        "network_options.dropout": 0.1
    }


@pytest.mark.parametrize(
    ("model", "pair", "meaning"),
    [
        (TrainConfig, "stor=s", "'store'"),
        (TrainConfig, "epocs=2", "'fit.epochs'"),
        (TrainConfig, "fit.epoch=2", "'fit.epochs'"),
        (TrainConfig, "fit.width=2", "'width'"),
        (EmissivityConfig, "seed=2", "'solve.seed' or 'fit.seed'"),
        (EmissivityConfig, "BATCH_SIZE=2", "'fit.batch_size'"),
    ],
)
def test_an_unknown_name_is_told_before_a_missing_one_with_the_name_that_was_meant(
    model, pair, meaning
):
    with pytest.raises(InputError, match=rf"unknown key '.*; did you mean {meaning}\?"):
        model.parse(replace_values({}, parse_parameters([pair], model)), "-p")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": True}, "width is True, but: expected int, not true or false"),
        ({"fit": {"max_gradient_norm": False}}, "fit.max_gradient_norm is False, but: expected"),
        ({"network_options": {"dropout": "x"}}, "network_options.dropout is 'x', .* bool or int"),
        ({"window": {"inputs": 3}}, "window.inputs is 3, but: expected a list"),
        ({"transport": 3}, "transport is 3, but: .*bool"),
        ({"start_from": ""}, "start_from is .., but: expected a path"),
    ],
)
def test_a_value_of_another_kind_is_refused_with_the_kinds_that_fit(values, message):
    with pytest.raises(InputError, match=message):
        TrainConfig(store="s", **values)


def test_text_where_a_list_is_expected_is_refused_with_an_example():
    with pytest.raises(InputError, match=r"variables is 'sit', but: expected a list, .*\[sit\]"):
        PrepareConfig(variables="sit")


def test_a_wrong_configuration_in_python_is_an_input_error_of_one_sentence():
    with pytest.raises(InputError, match="^TrainConfig: fit.epochs is 0, but: "):
        TrainConfig(store="s", fit={"epochs": 0})
    with pytest.raises(InputError, match="^FitConfig: unknown key 'epoch'"):
        FitConfig(epoch=3)
    with pytest.raises(InputError, match="^FitConfig: learning_rate is .*finite"):
        FitConfig(learning_rate=float("inf"))


def test_yaml_files_are_read_with_the_same_rules():
    text = "a: 1e-3\nb: 007\nc: 12:30\nd: 2021-03-01\ne: no\nf: [1, .5, true, null]"
    assert load_yaml(text) == {
        "a": 0.001,
        "b": "007",
        "c": "12:30",
        "d": "2021-03-01",
        "e": "no",
        "f": [1, 0.5, True, None],
    }


def test_every_setting_has_a_description_a_type_in_words_and_a_default():
    for job in options.JOBS:
        for setting in list_settings(options.config_class(job)):
            assert setting.description.endswith("."), setting
            assert setting.default, setting
            assert "typing" not in type_text(setting.annotation), setting
    defaults = {setting.name: setting.default for setting in list_settings(EmissivityConfig)}
    assert defaults["fit.batch_size"] == "1024"
    assert defaults["model.network"] == "linear (version 2: frequency)"
    assert TrainConfig(store="s").global_mean_weight == GLOBAL_MEAN_WEIGHT


def test_settings_with_dots_change_values_inside_and_keep_their_neighbours():
    defaults = {"fit": {"epochs": 8, "seed": 1}, "width": 4}
    assert replace_values(defaults, {"fit.epochs": 3, "model.depth": 2, "width": 8}) == {
        "fit": {"epochs": 3, "seed": 1},
        "width": 8,
        "model": {"depth": 2},
    }
    assert defaults == {"fit": {"epochs": 8, "seed": 1}, "width": 4}


def test_of_a_value_and_a_value_inside_it_the_last_one_counts():
    assert replace_values({}, {"model": "linear", "model.depth": 2}) == {"model": {"depth": 2}}
    assert replace_values({}, {"model.depth": 2, "model": "linear"}) == {"model": "linear"}


def test_a_group_of_settings_replaces_the_whole_group():
    values = {"options": {"dropout": 0.1}}
    assert replace_values(values, {"options": {"kernel_size": 5}}) == {
        "options": {"kernel_size": 5}
    }


@pytest.mark.parametrize("name", ["epochs", "batch_size", "patience", "learning_rate"])
def test_a_training_of_nothing_is_refused(name):
    with pytest.raises(InputError, match=rf"fit: {name} is 0, but: .*greater than"):
        FitConfig.parse({name: 0}, "fit")


def test_the_fast_preset_changes_defaults_and_given_settings_stay():
    given = {"learning_rate": 5e-4, "seed": 3}
    for fit in (given, FitConfig(**given)):
        config = TrainConfig(store="s", preset="fast", fit=fit)
        assert (config.fit.learning_rate, config.fit.seed) == (5e-4, 3)
        assert (config.fit.schedule, config.fit.batch_size) == ("cosine", 8)
        assert TrainConfig.parse(load_yaml(config.to_yaml()), "text") == config
    assert TrainConfig(store="s", preset="published").fit == FitConfig()
    with pytest.raises(InputError, match="preset"):
        TrainConfig(store="s", preset="quick")
    for fit in (3, 0, None, [], ""):
        with pytest.raises(InputError, match="fit is .*, but: expected 'key: value' pairs"):
            TrainConfig(store="s", preset="fast", fit=fit)


def test_the_fast_preset_with_all_settings_of_a_published_run_is_refused():
    values = load_yaml(TrainConfig(store="s", fit={"epochs": 30}).to_yaml()) | {"preset": "fast"}
    with pytest.raises(InputError, match="the preset fast has no effect.* leave them out"):
        TrainConfig.parse(values, "config.yaml")
    values["fit"] = {"epochs": 30}
    assert TrainConfig.parse(values, "config.yaml").fit.schedule == "cosine"
