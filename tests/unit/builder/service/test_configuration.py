"""An image's configuration: history that fits the layers, and times that don't change when everything is cached."""

from boxship.types.containers import ContainerConfig
from boxshipd.builder.exporters.configuration import BuiltImage, configuration, timestamp
from boxshipd.builder.graph import Input
from boxshipd.builder.plan import BaseImage, PlannedImage, Step
from boxshipd.builder.results import Snapshot
from boxshipd.images.digest import chain_ids
from boxshipd.images.model import History, ImageConfig, Platform, RootFS
from boxshipd.images.record import Layer

HERE = Platform("amd64", "linux")


def layers(*names: str) -> tuple[Layer, ...]:
    return tuple(Layer(f"blob-{name}", name, chain, 0) for name, chain in zip(names, chain_ids(list(names)), strict=True))


def built(
    steps: list[tuple[str, tuple[Layer, ...] | None]], base: int = 1, history: tuple[History, ...] | None = None, **fields
) -> BuiltImage:
    """What comes of a base of ``base`` layers and of steps, each with the file system after it."""
    below = layers(*(f"base{number}" for number in range(base)))
    config = ImageConfig(rootfs=RootFS([layer.diff for layer in below]))
    planned = PlannedImage(
        platform=HERE,
        output=Input("sha256:x"),
        config=ContainerConfig(cmd=["sh"]),
        base=BaseImage(reference="sha256:base", platform=HERE, config=config),
        base_history=history if history is not None else tuple(History(timestamp(n), f"base {n}") for n in range(base)),
        steps=tuple(Step(created_by=text, output=None if made is None else Input(f"sha256:{text}")) for text, made in steps),
        **fields,
    )
    outputs = tuple(None if made is None else Snapshot(made) for _, made in steps)
    final = next((made for _, made in reversed(steps) if made is not None), below)
    return BuiltImage(planned, Snapshot(final), outputs)


def shown(image: ImageConfig) -> list[tuple[str, bool, str]]:
    return [(line.created_by, not line.empty_layer, line.created) for line in image.history]


def test_each_step_has_its_line_and_each_layer_its_time():
    run = layers("base0", "run")
    image = configuration(
        built([("ENV a=b", None), ("RUN x", run), ("CMD y", None)]), run, lambda layer: 1000 if layer.diff == "run" else 5
    )
    new = timestamp(1000)
    assert shown(image) == [
        ("base 0", True, timestamp(0)),
        ("ENV a=b", False, new),
        ("RUN x", True, new),
        ("CMD y", False, new),
    ]
    assert image.created == new
    assert image.rootfs.diff_ids == ["base0", "run"]


def test_an_image_without_new_layers_is_as_old_as_its_base():
    image = configuration(built([("ENV a=b", None)]), layers("base0"), lambda _: 1000)
    assert image.created == timestamp(0)


def test_a_step_that_made_several_layers_has_as_many_lines():
    made = layers("base0", "one", "two")
    image = configuration(built([("COPY --link x /", made)]), made, lambda _: 7)
    assert [line[:2] for line in shown(image)] == [("base 0", True), ("COPY --link x /", True), ("COPY --link x /", True)]


def test_a_step_that_changed_nothing_has_no_layer():
    image = configuration(built([("RUN true", layers("base0"))]), layers("base0"), lambda _: 7)
    assert [line[:2] for line in shown(image)] == [("base 0", True), ("RUN true", False)]


def test_a_base_with_less_history_than_layers_is_made_complete():
    made = layers("base0", "base1", "run")
    image = configuration(built([("RUN x", made)], base=2, history=()), made, lambda _: 7)
    assert [line[:2] for line in shown(image)] == [("", True), ("", True), ("RUN x", True)]


def test_a_base_with_more_history_than_layers_keeps_its_lines_without_layers():
    history = tuple(History(timestamp(n), f"old {n}") for n in range(3))
    made = layers("base0", "run")
    image = configuration(built([("RUN x", made)], history=history), made, lambda _: 7)
    assert [line[:2] for line in shown(image)] == [("old 0", False), ("old 1", False), ("old 2", True), ("RUN x", True)]


def test_with_an_epoch_everything_new_is_of_that_time():
    run = layers("base0", "run")
    image = configuration(built([("RUN x", run), ("CMD y", None)], epoch=86400), run, lambda _: 1000)
    assert [line[2] for line in shown(image)] == [timestamp(0), timestamp(86400), timestamp(86400)]
    assert image.created == "1970-01-02T00:00:00Z"


def test_squashed_steps_keep_their_lines_and_the_last_has_the_layer():
    made = layers("base0", "one", "two")
    squashed = layers("base0", "both")
    image = configuration(built([("RUN 1", layers("base0", "one")), ("RUN 2", made)]), squashed, lambda _: 7)
    assert [line[:2] for line in shown(image)] == [("base 0", True), ("RUN 1", False), ("RUN 2", False), ("", True)]
    assert image.rootfs.diff_ids == ["base0", "both"]


def test_an_image_of_nothing_but_settings():
    planned = PlannedImage(
        platform=Platform("arm", "linux", "v7"), output=None, config=ContainerConfig(), steps=(Step(created_by="CMD x"),)
    )
    image = configuration(BuiltImage(planned, Snapshot(), (None,)), (), lambda _: 0)
    assert (image.architecture, image.variant, image.rootfs.diff_ids) == ("arm", "v7", [])
    assert shown(image) == [("CMD x", False, timestamp(0))]
