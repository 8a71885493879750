"""The kind of network, read from folders that tests make up."""

import pytest

from reconciler.adapters.network import network_facts

HEAD = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"


def route(interface, destination="00000000", flags="0003", metric=0, mask="00000000"):
    return f"{interface}\t{destination}\t010200C0\t{flags}\t0\t0\t{metric}\t{mask}\t0\t0\t0\n"


@pytest.fixture
def machine(tmp_path):
    (tmp_path / "proc/net").mkdir(parents=True)
    (tmp_path / "proc/net/route").write_text(HEAD)

    def make(routes="", **interfaces):
        (tmp_path / "proc/net/route").write_text(HEAD + routes)
        for name, files in interfaces.items():
            folder = tmp_path / "sys/class/net" / name
            folder.mkdir(parents=True)
            for file, text in files.items():
                (folder / file).write_text(text) if text else (folder / file).mkdir()
        return str(tmp_path)

    return make


def test_a_cable_is_ethernet(machine):
    assert network_facts(root=machine(route("eth0"), eth0={"type": "1\n"})) == ("ethernet", None)


@pytest.mark.parametrize("folder", ["wireless", "phy80211"])
def test_a_radio_is_wifi(machine, folder):
    assert network_facts(root=machine(route("wlan0"), wlan0={"type": "1\n", folder: ""}))[0] == "wifi"


def test_a_phone_line_or_tunnel_is_other(machine):
    root = machine(route("wwan0"), wwan0={"type": "1\n"}, tun0={"type": "65534\n"})
    assert network_facts(root=root)[0] == "other"
    assert network_facts(root=machine(route("tun0")))[0] == "other"


def test_the_smallest_metric_wins(machine):
    root = machine(route("wlan0", metric=600) + route("eth0", metric=100), eth0={"type": "1\n"}, wlan0={"wireless": ""})
    assert network_facts(root=root)[0] == "ethernet"


def test_only_a_default_route_that_is_up_counts(machine):
    assert network_facts(root=machine())[0] == "none"
    lan = route("eth0", destination="000200C0", mask="00FFFFFF")
    assert network_facts(root=machine(lan + route("eth0", flags="0000"), eth0={"type": "1\n"}))[0] == "none"


def test_a_version_6_default_route_counts_where_there_is_no_other(machine, tmp_path):
    zero = "0" * 32
    lines = [
        f"{zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200 lo",
        f"{zero} 00 {zero} 00 fe80{'0' * 28} 00000400 00000001 00000000 00000003 eth0",
    ]
    root = machine(eth0={"type": "1\n"})
    (tmp_path / "proc/net/ipv6_route").write_text("\n".join(lines) + "\n")
    assert network_facts(root=root)[0] == "ethernet"


def test_a_machine_that_does_not_tell_is_unknown(tmp_path):
    assert network_facts(root=str(tmp_path)) == ("unknown", None)


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("wifi,metered", ("wifi", True)),
        ("Ethernet, unmetered", ("ethernet", False)),
        ("none", ("none", None)),
        ("metered", ("unknown", True)),
        ("nonsense", ("unknown", None)),
    ],
)
def test_the_environment_overrides(text, facts, tmp_path):
    assert network_facts({"RECONCILER_NETWORK": text}, root=str(tmp_path)) == facts
