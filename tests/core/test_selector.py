"""``when:`` says why not; a roll-out keeps its devices."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.desired import Comparison, LabelRequirement, Selector
from reconciler.core.observed import DeviceFacts, DiskFacts, MemoryFacts
from reconciler.core.selector import canonical_word, in_rollout, selects

GIB = 2**30
DEVICE = DeviceFacts(
    hostname="kiosk-7",
    os="linux",
    arch="x86_64",
    labels=(("site", "lab"), ("tier", "2")),
    accelerators=("cuda", "vulkan"),
    device_id="device-1",
)
MEMORY = MemoryFacts(total_bytes=8 * GIB, available_bytes=GIB)
DISK = DiskFacts(total_bytes=100 * GIB, free_bytes=GIB)


def requirement(operator, *values, key="site"):
    return Selector(match_expressions=(LabelRequirement(key, operator, values),))


SELECTED = {
    "nothing asked": Selector(),
    "label": Selector(match_labels=(("site", "lab"), ("tier", "2"))),
    "In": requirement("In", "shop", "lab"),
    "NotIn": requirement("NotIn", "shop"),
    "NotIn of an absent label": requirement("NotIn", "x", key="nowhere"),
    "Exists": requirement("Exists"),
    "DoesNotExist": requirement("DoesNotExist", key="nowhere"),
    "os": Selector(os=("macos", "linux")),
    "arch by its other name": Selector(arch=("AMD64",)),
    "host name pattern": Selector(hostname=("lab-*", "kiosk-?")),
    "any": Selector(hostname=("*",)),
    "accelerator": Selector(accelerator=("rocm", "vulkan")),
    "memory": Selector(memory=Comparison(">=", 8 * GIB)),
    "disk": Selector(disk=Comparison("<", 200 * GIB)),
}
NOT_SELECTED = {
    "label of another value": (
        Selector(match_labels=(("site", "shop"),)),
        'label site is "lab"; the model is for "shop"',
    ),
    "label not set": (Selector(match_labels=(("room", "1"),)), 'label room is not set; the model is for "1"'),
    "In": (requirement("In", "shop"), 'label site is "lab"; the model asks for one of "shop"'),
    "In of an absent label": (
        requirement("In", "x", key="room"),
        'label room is not set; the model asks for one of "x"',
    ),
    "NotIn": (requirement("NotIn", "lab"), 'label site is "lab"; the model asks for none of "lab"'),
    "Exists": (requirement("Exists", key="room"), "label room is not set; the model asks for that it is set"),
    "DoesNotExist": (requirement("DoesNotExist"), 'label site is "lab"; the model asks for that it is not set'),
    "os": (Selector(os=("macos",)), "operating system is linux; the model is for macos"),
    "arch": (Selector(arch=("aarch64", "armv7")), "architecture is x86_64; the model is for aarch64 or armv7"),
    "host name is no substring": (Selector(hostname=("kiosk",)), "host name is kiosk-7; the model is for kiosk"),
    "accelerator": (Selector(accelerator=("rocm",)), "accelerator is cuda and vulkan; the model is for rocm"),
    "memory": (Selector(memory=Comparison(">", 8 * GIB)), "memory is 8.6 GB; the model asks for >8GiB"),
    "disk": (Selector(disk=Comparison("==", GIB)), "disk is 107 GB; the model asks for ==1GiB"),
    "one part of two": (Selector(os=("linux",), arch=("arm64",)), "architecture is x86_64; the model is for arm64"),
}


@pytest.mark.parametrize("selector", SELECTED.values(), ids=SELECTED.keys())
def test_a_machine_that_fits_is_selected(selector):
    assert selects(selector, DEVICE, MEMORY, DISK) is None


@pytest.mark.parametrize(("selector", "sentence"), NOT_SELECTED.values(), ids=NOT_SELECTED.keys())
def test_a_machine_that_does_not_fit_is_told_why(selector, sentence):
    assert selects(selector, DEVICE, MEMORY, DISK) == sentence


def test_a_machine_without_accelerator_is_told_so():
    assert (
        selects(Selector(accelerator=("cuda",)), DeviceFacts(), MEMORY, DISK)
        == "accelerator is none; the model is for cuda"
    )


@given(st.text(alphabet="kiosk-7*?.[", max_size=12))
def test_a_pattern_without_wildcards_matches_itself_only(pattern):
    outcome = selects(Selector(hostname=(pattern,)), DEVICE, MEMORY, DISK)
    if "*" not in pattern and "?" not in pattern:
        assert (outcome is None) == (pattern == "kiosk-7")


@pytest.mark.parametrize(
    ("word", "same"), [("arm64", "aarch64"), ("X64", "x86_64"), ("Darwin", "macos"), ("riscv64", "riscv64")]
)
def test_one_thing_has_one_name(word, same):
    assert canonical_word(word) == same


@given(st.text(), st.text(), st.floats(0, 100), st.floats(0, 100))
def test_a_device_stays_in_while_a_rollout_grows(device, model, one, other):
    small, large = sorted((one, other))
    assert in_rollout(device, model, large) or not in_rollout(device, model, small)


@given(st.text(), st.text())
def test_nobody_is_in_at_0_and_everybody_at_100(device, model):
    assert not in_rollout(device, model, 0)
    assert in_rollout(device, model, 100)


def test_a_rollout_takes_about_its_share_and_other_devices_for_other_models():
    first = {device for device in range(4000) if in_rollout(f"device-{device}", "llama", 10)}
    second = {device for device in range(4000) if in_rollout(f"device-{device}", "whisper", 10)}
    assert 330 < len(first) < 470
    assert len(first & second) < 100


def test_the_place_of_a_device_never_changes():
    assert not in_rollout("device-1", "llama", 56)
    assert in_rollout("device-1", "llama", 57)
