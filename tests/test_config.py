"""Configuration: wrong keys and types are refused, and the known keys are listed."""

import pytest

from seaice_lab.config import Config, FitConfig, parse_parameters, read_yaml, replace_values
from seaice_lab.errors import InputError


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


def test_parameters_on_the_command_line_are_read_as_yaml():
    parsed = parse_parameters(["epochs=3", "run=runs/x", "compile=true", "note=a=b"])
    assert parsed == {"epochs": 3, "run": "runs/x", "compile": True, "note": "a=b"}
    with pytest.raises(InputError, match="'epochs': expected name=value"):
        parse_parameters(["epochs"])
    with pytest.raises(InputError, match=r"'cases=\[1': the value is not valid YAML"):
        parse_parameters(["cases=[1"])


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
