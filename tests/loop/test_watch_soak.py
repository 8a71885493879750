"""Many passes of the real command: it grows by nothing."""

import pytest
from watching import Sample, counted, many_models

MIB = 1 << 20


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_thousand_passes_take_no_more_memory_and_no_more_files(machine):
    many_models(machine, 60)
    with counted(machine, "--interval", "1h") as watch:
        watch.run_passes(150)  # allocators and caches fill
        first = Sample.of(watch.pid)
        watch.run_passes(1000)
        last = Sample.of(watch.pid)
    assert last.rss_bytes - first.rss_bytes <= MIB
    assert last.files <= first.files  # a client of the first look may still be leaving
