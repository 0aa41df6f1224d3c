from support.cgroups import run_limited
import pytest, json
def scenario(reuse: bool) -> None:
    import json, mmap
    from mvolatile import _core
    from mvolatile.memory import stored_memory
    v = bytes(range(256)) * 4096 
    def new(): return stored_memory([v], "t", dump=True, inherit=True)
    old = [new() for _ in range(24)]
    mid = [new() for _ in range(24)]
    newest = []
    for i in range(24):
        m = old.pop(0)
        if reuse: assert _core.close_and_keep(m)
        else: m.close()
        newest.append(new())
    squeeze = bytearray(0)
    keep=[]
    for _ in range(40):
        keep.append(bytearray(b"x")*(1<<20))
    print(json.dumps([sum(not m.purged() for m in mid), sum(not m.purged() for m in newest), sum(m.resident() for m in mid)>>20, sum(m.resident() for m in newest)>>20]))
@pytest.mark.parametrize("reuse",[True,False])
def test_it(reuse):
    print(run_limited(scenario, 84<<20, reuse).check().stdout)
