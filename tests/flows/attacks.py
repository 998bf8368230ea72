"""Files that strangers made to run something, to take all memory or time, or to be read wrongly.

Each function makes one file, and its first line says what the file tries. `CALLS` are what a pickle might have called,
and are put into files of every shape; `BOMBS` are files of their own.
"""

import marshal
import struct

from containers.builders import legacy_stream
from flows import opcodes
from flows.opcodes import (
    EMPTY,
    FALSE,
    NONE,
    again,
    call,
    data,
    kept,
    listing,
    made,
    mapping,
    named,
    number,
    text,
    value,
)

#: Made by whatever runs, and looked for afterwards; in the folder that the command runs in.
MARKER = "it-ran"
_TOUCH = f"open('{MARKER}', 'w')"
_SHELL = f"touch {MARKER}"

CALLS = {}
BOMBS = {}


def _call(*names):
    def register(function):
        CALLS[function.__name__] = (function, names)
        return function

    return register


def _bomb(*names):
    def register(function):
        BOMBS[function.__name__] = (function, names)
        return function

    return register


# --- what would run something, if anything were called ---


@_call("posix.system")
def os_system():
    """REDUCE calls posix.system."""
    return call("posix.system", _SHELL)


@_call("posix.system")
def os_system_by_inst():
    """INST, protocol 0's way to call, with a shell command."""
    return b"(" + text(_SHELL) + b"iposix\nsystem\n"


@_call("posix.system")
def os_system_by_obj():
    """OBJ, protocol 1's way to call, with a shell command."""
    return b"(" + named("posix.system") + text(_SHELL) + b"o"


@_call("subprocess.Popen")
def popen_by_newobj_ex():
    """NEWOBJ_EX makes a process with keyword arguments."""
    return named("subprocess.Popen") + value((_SHELL,)) + mapping({"shell": True}) + b"\x92"


@_call("builtins.eval")
def eval_():
    """eval of an expression that makes a file."""
    return call("builtins.eval", _TOUCH)


@_call("__builtin__.execfile")
def exec_of_python_2():
    """Python 2's names of the built-ins, which protocols 0 to 2 map to today's."""
    return call("__builtin__.execfile", "/tmp/evil.py")


@_call("builtins.getattr", "builtins.__import__")
def getattr_chain():
    """getattr(getattr(__import__('os'), 'system'), '__call__')(command): no name of it is forbidden by itself."""
    system = call("builtins.getattr", call("builtins.__import__", "os"), "system")
    return call(call("builtins.getattr", system, "__call__"), _SHELL)


@_call("os.system.__call__")
def dotted_name_by_stack_global():
    """STACK_GLOBAL with a dotted name, which getattr would walk from protocol 4 on."""
    return text("os") + text("system.__call__") + b"\x93" + value((_SHELL,)) + b"R"


@_call("posix.environ", "builtins.setattr")
def setstate_on_os_objects():
    """BUILD sets the state of what a module already has, and a call sets one of its attributes."""
    poisoned = call("builtins.setattr", call("builtins.__import__", "os"), "getcwd", named("posix.system"))
    return listing([made("posix.environ", {"PATH": "/tmp"}), poisoned])


@_call("argparse.Namespace", "posix.system")
def setstate_that_calls():
    """An object whose state has a __setstate__ of its own, given a command as its next state."""
    first = made("argparse.Namespace", {"__setstate__": named("posix.system")})
    return first + text(_SHELL) + b"b"


@_call("copyreg._reconstructor")
def copyreg_reconstructor():
    """copyreg._reconstructor makes an object of any class with any base."""
    return call("copyreg._reconstructor", named("os._wrap_close"), named("builtins.object"), NONE)


@_call("copyreg.add_extension")
def extension_registered():
    """Registers an extension code, by which the next pickle could name a function without its name."""
    return call("copyreg.add_extension", "posix", "system", 200)


@_call("torch.storage._load_from_bytes")
def pickle_in_a_storage():
    """torch.storage._load_from_bytes unpickles the bytes that it is given."""
    return call("torch.storage._load_from_bytes", data(b"\x80\x02" + os_system() + b"."))


@_call("torch.load", "torch.serialization.load")
def torch_load_inside():
    """torch.load of another file, with weights_only off."""
    inner = named("torch.serialization.load") + value(("evil.pt",)) + mapping({"weights_only": False}) + b"\x92"
    return listing([call("torch.load", "evil.pt"), inner])


@_call("importlib.import_module")
def import_module():
    """Imports a module, whose code would run."""
    return call("importlib.import_module", "evil")


@_call("pickle.loads", "_pickle.loads")
def pickle_loads():
    """pickle.loads of another pickle."""
    inner = data(b"\x80\x02" + os_system() + b".")
    return listing([call("pickle.loads", inner), call("_pickle.loads", inner)])


@_call("types.FunctionType", "marshal.loads")
def function_from_code():
    """A function made of marshalled code, and called."""
    code = call("marshal.loads", data(marshal.dumps(compile(_TOUCH, "evil", "eval"))))
    return call(call("types.FunctionType", code, mapping({})), value(()))


@_call("webbrowser.open", "runpy._run_code", "timeit.timeit", "code.InteractiveInterpreter")
def less_known_ways():
    """Functions of the standard library that run a text: those that lists of forbidden names forget."""
    calls = [call("webbrowser.open", "file:///etc/passwd"), call("runpy._run_code", _TOUCH, mapping({}))]
    calls += [call("timeit.timeit", _TOUCH), made("code.InteractiveInterpreter")]
    return listing(calls)


@_call("builtins.compile", "operator.methodcaller", "functools.partial", "builtins.map")
def pieces_that_call_when_used():
    """A partial, a methodcaller and a map: harmless until something iterates or calls them."""
    partial = call("functools.partial", call("builtins.compile", _TOUCH, "x", "exec"))
    return call("builtins.map", partial, listing([call("operator.methodcaller", "system", _SHELL)]))


@_call("numpy._core.multiarray.scalar", "numpy.dtype")
def numpy_scalar_of_objects():
    """A numpy scalar whose dtype is object: numpy would unpickle its bytes."""
    dtype = made("numpy.dtype", (3, "|", NONE, NONE, NONE, -1, -1, 63), args=("O8", FALSE, b"\x88"))
    return call("numpy._core.multiarray.scalar", dtype, data(b"\x80\x02" + os_system() + b"."))


@_call("pathlib.PosixPath", "torch.device", "omegaconf.nodes.AnyNode")
def known_classes_with_hostile_arguments():
    """Classes that are read as values, made with calls where they have texts."""
    node = made("omegaconf.nodes.AnyNode", {"_val": os_system(), "_parent": NONE})
    return listing([call("pathlib.PosixPath", os_system()), call("torch.device", "cpu", os_system()), node])


#: Where in a file of each shape a call stands.
def _in_metadata(opcodes_):
    return opcodes.pt(opcodes.record({"epoch": 1, "evals": {"a": opcodes_}, "agent_step": 2}))


def _as_metadata(opcodes_):
    return opcodes.pt(opcodes.record(opcodes_))


def _as_policy(opcodes_):
    return opcodes.pt(opcodes.record(policy=opcodes_))


def _in_agent(opcodes_):
    held = {"_core_": opcodes.module(parameters={"weight": opcodes.tensor()}, _sources=listing([opcodes_]))}
    return opcodes.pt(opcodes.agent(held, agent_attributes=opcodes_, clip_range=opcodes_, action_names=opcodes_))


def _as_parameter(opcodes_):
    return opcodes.pt(opcodes.record(policy=opcodes.agent({"_core_": opcodes.module(parameters={"w": opcodes_})})))


def _as_component(opcodes_):
    return opcodes.pt(opcodes.agent({"_core_": opcodes.module(parameters={"w": opcodes.tensor()}), "_obs_": opcodes_}))


def _in_package(opcodes_):
    record = opcodes.record({"epoch": 1, "evil": opcodes_}, policy=NONE)
    source = f"{_TOUCH}\n".encode()
    return opcodes.package(
        {"policy_record/data.pkl": record, "policy/model.pkl": packaged_agent(extra=opcodes_)},
        sources={"metta/agent/metta_agent.py": source, "metta/__init__.py": source},
    )


def packaged_agent(**attributes):
    """An agent whose storages have numbers for names."""
    return opcodes.agent({"_core_": opcodes.module(parameters={"weight": opcodes.tensor(0)})}, **attributes)


def _in_wrapped(opcodes_):
    return opcodes.pt(mapping({"epoch": 1, "evals": opcodes_, "model_state_dict": mapping({"w": opcodes.tensor()})}))


def _as_wrapped_weight(opcodes_):
    return opcodes.pt(mapping({"epoch": 1, "model_state_dict": mapping({"w": opcodes.tensor(), "evil": opcodes_})}))


def _in_state_dict(opcodes_):
    return opcodes.pt(mapping({"w": opcodes.tensor(), "evil": opcodes_}))


def _as_root(opcodes_):
    return opcodes.pt(opcodes_)


def _in_stream(opcodes_):
    root = b"\x80\x02" + mapping({"w": NONE, "evil": opcodes_}) + b"."
    return legacy_stream(root, {})


def _in_compressed(opcodes_):
    return opcodes.compressed(opcodes.record({"epoch": 1, "evals": opcodes_}))


def _behind_the_storages(opcodes_):
    """Where the pickle is not what the file begins with."""
    return opcodes.pt(opcodes.record({"epoch": 1, "evals": opcodes_}), last=True)


PLACES = {
    "metadata value": _in_metadata,
    "metadata": _as_metadata,
    "policy": _as_policy,
    "agent's attributes": _in_agent,
    "parameter": _as_parameter,
    "component": _as_component,
    "package": _in_package,
    "wrapped value": _in_wrapped,
    "wrapped weight": _as_wrapped_weight,
    "state dict": _in_state_dict,
    "root": _as_root,
    "stream of before 1.6": _in_stream,
    "compressed pickle": _in_compressed,
    "pickle at the end": _behind_the_storages,
}


# --- extension codes, persistent ids, storages ---

_METTA = "metta.agent.policy_record.PolicyRecord"


@_bomb(_METTA)
def extension_code():
    """EXT1 in the metadata: what it names only the process that wrote it knew."""
    return opcodes.pt(opcodes.record({"epoch": 1, "x": b"\x82\x01"}))


@_bomb(_METTA)
def storage_named_like_a_password_file():
    """A persistent id whose storage key is /etc/passwd."""
    weights = {"_core_": opcodes.module(parameters={"w": opcodes.tensor("/etc/passwd")})}
    return opcodes.pt(opcodes.record(policy=opcodes.agent(weights)))


@_bomb(_METTA)
def storage_that_climbs():
    """A persistent id whose storage key climbs out of the archive, and a member of that name."""
    weights = {"_core_": opcodes.module(parameters={"w": opcodes.tensor("../../x")})}
    return opcodes.pt(opcodes.record(policy=opcodes.agent(weights)), {"../../x": opcodes.VALUES})


@_bomb(_METTA)
def persistent_id_of_another_kind():
    """A persistent id that names a module, as torch.save's oldest format had them, and one that is a text."""
    module = value(("module", named("posix.system"), "evil.py", _TOUCH)) + b"Q"
    return opcodes.pt(opcodes.record({"epoch": 1, "a": module, "b": b"P/etc/passwd\n"}))


@_bomb(_METTA)
def member_that_climbs():
    """A member of the archive named ../../it-ran."""
    return opcodes.pt(opcodes.record(), **{f"../../{MARKER}": b"x"})


@_bomb(_METTA)
def terabyte_parameter():
    """A parameter of 2^38 floats over a storage of 16 bytes."""
    weights = {"_core_": opcodes.module(parameters={"w": opcodes.tensor(shape=(1 << 38,), stride=(1,))})}
    return opcodes.pt(opcodes.record(policy=opcodes.agent(weights)))


@_bomb(_METTA)
def terabyte_storage():
    """A parameter whose storage claims 2^38 floats, of which the file has four."""
    tensor = opcodes.tensor(count=1 << 38, shape=(1 << 38,), stride=(1,))
    return opcodes.pt(opcodes.record(policy=opcodes.agent({"_core_": opcodes.module(parameters={"w": tensor})})))


@_bomb(_METTA)
def terabyte_by_expanding():
    """A parameter that repeats its first element 2^38 times, with a step of 0."""
    tensor = opcodes.tensor(shape=(1 << 38,), stride=(0,))
    return opcodes.pt(opcodes.record(policy=opcodes.agent({"_core_": opcodes.module(parameters={"w": tensor})})))


@_bomb(_METTA)
def terabyte_in_metadata():
    """Metadata with tensors of 2^38 elements: by their shape, their storage, and a step of 0."""
    tensors = [
        opcodes.tensor(shape=(1 << 38,), stride=(0,)),
        opcodes.tensor(shape=(1 << 38,), stride=(1,)),
        opcodes.tensor("7", count=1 << 38, shape=(1 << 38,), stride=(1,)),
    ]
    return opcodes.pt(opcodes.record({"epoch": 1, "evals": listing(tensors)}))


@_bomb(_METTA)
def tensors_without_elements_but_with_rows():
    """Metadata with a tensor of 2^40 rows of no elements, and an array of 10^8 such rows: lists of them are long."""
    tensor = opcodes.tensor(shape=(1 << 40, 0), stride=(1, 1))
    array = numpy_array((10_000, 10_000, 0), data(b""))
    return opcodes.pt(opcodes.record({"epoch": 1, "evals": listing([tensor, array])}))


@_bomb(_METTA)
def thousands_of_large_views():
    """50,000 parameters over one storage of 1 MiB: written out they take 50 GB."""
    tensor = kept(1, opcodes.tensor(count=1 << 18, shape=(1 << 18,), stride=(1,)))
    named_ = {f"w{place}": tensor if place == 0 else again(1) for place in range(50_000)}
    policy = opcodes.module(parameters=named_)
    return opcodes.pt(opcodes.record(policy=policy), {"0": bytes(1 << 20)})


@_bomb(_METTA)
def overlapping_storages():
    """Two parameters over one storage, which one says holds floats and the other bytes."""
    held = {"a": opcodes.tensor(), "b": opcodes.tensor(count=16, class_="torch.ByteStorage")}
    return opcodes.pt(opcodes.record(policy=opcodes.module(parameters=held)))


@_bomb(_METTA)
def bytearray_of_100_gb():
    """BYTEARRAY8 claims 100 GB."""
    return opcodes.pt(opcodes.record({"epoch": 1, "x": b"\x96" + struct.pack("<Q", 100_000_000_000)}))


@_bomb(_METTA)
def bytearray_call_of_100_gb():
    """bytearray(10^11) and a text times 10^11: calls that would take all memory."""
    times = call("operator.mul", "x", 10**11)
    return opcodes.pt(opcodes.record({"epoch": 1, "x": call("builtins.bytearray", 10**11), "y": times}))


@_bomb(_METTA)
def memo_index_of_4_billion():
    """LONG_BINPUT with the index 2^32 - 1: the C unpickler makes a memo of 64 GB."""
    return opcodes.pt(kept((1 << 32) - 1, opcodes.record()))


# --- nests and graphs ---


def _deep(opener, closer, depth=200_000):
    return opener * depth + NONE + closer * depth


_NESTS = {
    "lists": _deep(b"]", b"a"),
    "tuples": _deep(b"", b"\x85"),
    "dicts": _deep(b"}" + text("k"), b"s"),
    "sets": _deep(b"", b"\x85") + b"0" + _deep(b"\x8f(", b"\x90", 9_000),
    "calls": _deep(named("builtins.list"), b"\x85R", 100_000),
    "states": _deep(named("a.B") + EMPTY + b"\x81", b"b", 100_000),
    "appended objects": _deep(named("a.B") + EMPTY + b"\x81", b"a", 100_000),
    "persistent ids": _deep(b"", b"\x85Q", 100_000),
    "called results": named("a.B") + b")R" * 100_000,
    "omegaconf nodes": _deep(b"comegaconf.nodes\nAnyNode\n)\x81}" + text("_val"), b"sb", 50_000),
    "omegaconf lists": _deep(b"comegaconf.listconfig\nListConfig\n)\x81}" + text("_content") + b"]", b"asb", 50_000),
    "parameters of parameters": _deep(
        b"ctorch._utils\n_rebuild_parameter\n", FALSE + call("collections.OrderedDict") + b"\x87R", 50_000
    ),
    "attributes of parameters": _deep(
        b"ctorch._utils\n_rebuild_parameter_with_state\n(", FALSE + call("collections.OrderedDict") + b"NtR", 9_000
    ),
}


def _nest_in(place):
    def make(nest):
        if place == "metadata":
            return opcodes.pt(opcodes.record({"epoch": 1, "evals": nest}))
        if place == "parameter":
            held = {"_core_": opcodes.module(parameters={"w": nest})}
            return opcodes.pt(opcodes.record(policy=opcodes.agent(held)))
        if place == "child":
            return opcodes.pt(opcodes.module(children={"w": nest}))
        return opcodes.pt(mapping({"epoch": nest, "state_dict": mapping({"w": opcodes.tensor()})}))

    return make


NESTS = {
    f"{kind} in a {place}": (_nest_in(place), nest, [_METTA] if place in {"metadata", "parameter"} else [])
    for place in ("metadata", "parameter", "child", "wrapped dict")
    for kind, nest in _NESTS.items()
}


@_bomb(_METTA)
def memo_bomb():
    """Lists of ten times the list before, forty levels deep: 10^40 values if anybody counts them."""
    inner = kept(100, listing([1]))
    for level in range(40):
        inner += b"0" + kept(101 + level, listing([again(100 + level)] * 10))
    return opcodes.pt(opcodes.record({"epoch": 1, "evals": inner}))


@_bomb(_METTA)
def dict_that_holds_itself():
    """Metadata that are their own value."""
    cyclic = kept(50, b"}") + b"(" + text("again") + again(50) + b"u"
    return opcodes.pt(opcodes.record({"epoch": 1, "evals": cyclic}))


@_bomb("metta.agent.metta_agent.MettaAgent")
def module_that_holds_itself():
    """A module that is its own child."""
    cyclic = kept(50, named("metta.agent.metta_agent.MettaAgent") + b")\x81")
    state = {"_parameters": mapping({"w": opcodes.tensor()}), "_buffers": mapping({})}
    return opcodes.pt(cyclic + value(state | {"_modules": mapping({"child": again(50)})}) + b"b")


@_bomb(_METTA)
def wrapper_that_wraps_itself():
    """A DistributedDataParallel whose module is itself."""
    class_ = "torch.nn.parallel.distributed.DistributedDataParallel"
    cyclic = kept(50, named(class_) + b")\x81")
    state = {"_parameters": mapping({}), "_buffers": mapping({}), "_modules": mapping({"module": again(50)})}
    return opcodes.pt(opcodes.record(policy=cyclic + value(state) + b"b"))


def _shared_children(leaf, levels=64):
    inner = kept(1000, leaf)
    for level in range(levels):
        below = again(1000 + level)
        inner += b"0" + kept(1001 + level, opcodes.module(children={"a": below, "b": below}))
    return inner


@_bomb(_METTA)
def shared_children():
    """Modules of two children which are one, sixty levels deep: 2^60 names for one tensor."""
    return opcodes.pt(opcodes.record(policy=_shared_children(opcodes.module(parameters={"w": opcodes.tensor()}), 60)))


@_bomb(_METTA)
def shared_children_without_tensors():
    """The same without a tensor: nothing to count, and 2^60 modules to visit."""
    return opcodes.pt(opcodes.record(policy=_shared_children(opcodes.module(), 60)))


@_bomb(_METTA)
def large_module_shared_by_many():
    """A module of 100,000 attributes and buffers of None that is the child of one 100,000 times."""
    buffers = mapping([(f"b{place}", NONE) for place in range(50_000)])
    large = kept(5, opcodes.module(buffers=buffers, **{f"a{place}": NONE for place in range(50_000)}))
    children = [(f"c{place}", large if not place else again(5)) for place in range(100_000)]
    return opcodes.pt(opcodes.record(policy=opcodes.module(children=children)))


@_bomb(_METTA)
def names_of_gigabytes():
    """A module called by a million letters that has 10,000 parameters: their names take 10 GB."""
    tensor = kept(5, opcodes.tensor())
    inner = opcodes.module(parameters={f"w{place}": tensor if place == 0 else again(5) for place in range(10_000)})
    return opcodes.pt(opcodes.record(policy=opcodes.module(children={"x" * 1_000_000: inner})))


@_bomb(_METTA)
def attributes_of_gigabytes():
    """A key of a million letters over 100,000 values that JSON has no word for: each is told of, with its pointer."""
    strange = kept(5, made("a.B"))
    listed = listing([strange if place == 0 else again(5) for place in range(100_000)])
    return opcodes.pt(opcodes.record({"epoch": 1, "x" * 1_000_000: listed}))


@_bomb(_METTA)
def texts_of_gigabytes():
    """One text of a million letters, 100,000 times: a few bytes in a pickle, 100 GB in JSON."""
    listed = listing([kept(5, text("x" * 1_000_000)) if place == 0 else again(5) for place in range(100_000)])
    return opcodes.pt(opcodes.record({"epoch": 1, "evals": listed}))


@_bomb(_METTA)
def agent_of_a_million_tensors():
    """A thousand modules that each hold the same thousand parameters: a million tensors in little memory."""
    tensor = kept(5, opcodes.tensor())
    held = kept(6, mapping([(f"w{place}", tensor if place == 0 else again(5)) for place in range(1000)]))
    children = [(f"c{place}", opcodes.module(parameters=held if place == 0 else again(6))) for place in range(1000)]
    return opcodes.pt(opcodes.record(policy=opcodes.module(children=children)))


# --- metadata ---


def dtype(code, order="<"):
    return made("numpy.dtype", (3, order, NONE, NONE, NONE, -1, -1, 0), args=(code, FALSE, b"\x88"))


def numpy_array(shape, raw, kind=None):
    """An array as numpy's pickles have it; its bytes and dtype are opcodes, or bytes that are spelled as such."""
    begun = call("numpy._core.multiarray._reconstruct", named("numpy.ndarray"), value((0,)), data(b"b"))
    return begun + value((1, value(tuple(shape)), kind or dtype("f8"), FALSE, raw)) + b"b"


@_bomb(_METTA)
def array_of_a_billion():
    """An array of the shape (1000, 1000, 1000) with eight bytes, and one of 10^30 dimensions' product."""
    arrays = [numpy_array((1000,) * 3, data(bytes(8))), numpy_array((10_000,) * 50_000, data(bytes(8)))]
    return opcodes.pt(opcodes.record({"epoch": 1, "evals": listing(arrays)}))


@_bomb(_METTA)
def array_of_100_000_dimensions():
    """An array of one element in 100,000 dimensions: nested lists as deep."""
    return opcodes.pt(opcodes.record({"epoch": 1, "evals": numpy_array((1,) * 100_000, data(bytes(8)))}))


@_bomb(_METTA)
def array_whose_shape_is_a_nest():
    """Arrays and scalars with nests of 200,000 levels for a shape, a dtype and a byte order."""
    nest = kept(9, _NESTS["tuples"])
    shaped = call("numpy._core.multiarray._reconstruct", named("numpy.ndarray"), value((0,)), data(b"b"))
    shaped += value((1, (nest,), dtype("f8"), FALSE, data(bytes(8)))) + b"b"
    ordered = call("numpy._core.multiarray.scalar", dtype("f8", again(9)), data(bytes(8)))
    coded = call("numpy._core.multiarray.scalar", dtype(again(9)), data(bytes(8)))
    device = call("torch.device", "cpu", again(9))
    return opcodes.pt(opcodes.record({"epoch": 1, "evals": listing([shaped, ordered, coded, device])}))


@_bomb(_METTA)
def arrays_over_one_large_text():
    """100,000 arrays over one text of 4 million letters that each has to encode, as protocols of before 3 have it."""
    raw = kept(7, call("_codecs.encode", "x" * 4_000_000, "latin1"))
    first = numpy_array((1,), raw, kept(8, dtype("f8")))
    rest = numpy_array((1,), again(7), again(8))
    return opcodes.pt(opcodes.record({"epoch": 1, "evals": listing([first, *[rest] * 20_000])}))


@_bomb(_METTA)
def spaces_with_a_hundred_thousand_attributes():
    """100,000 times one space of gymnasium's, which has 100,000 attributes, in a state of a class of its own."""
    state = call("collections.OrderedDict") + opcodes.filled([(f"a{place}", NONE) for place in range(100_000)])
    space = kept(5, made("gymnasium.spaces.box.Box", state))
    listed = listing([space if place == 0 else again(5) for place in range(100_000)])
    return opcodes.pt(opcodes.record({"epoch": 1, "evals": listed}))


@_bomb(_METTA)
def components_that_share_a_large_one():
    """3,000 components that are one object of 100,000 attributes, whose states are many."""
    states = b"".join(value({f"a{state}_{place}": NONE for place in range(1000)}) + b"b" for state in range(100))
    large = kept(5, opcodes.module(parameters={"w": opcodes.tensor()}) + states)
    parts = {f"c{place}": large if place == 0 else again(5) for place in range(3_000)}
    return opcodes.pt(opcodes.record(policy=opcodes.agent(parts)))


@_bomb(_METTA)
def config_whose_content_is_itself():
    """A DictConfig whose _content is itself, and one whose _content holds it."""
    first = kept(50, named("omegaconf.dictconfig.DictConfig") + b")\x81") + value({"_content": again(50)}) + b"b"
    second = kept(51, named("omegaconf.dictconfig.DictConfig") + b")\x81")
    second += value({"_content": mapping({"a": again(51)}), "_parent": again(51)}) + b"b"
    return opcodes.pt(opcodes.record({"epoch": 1, "a": first, "b": second}))


@_bomb(_METTA)
def parents_in_a_circle():
    """Components whose sources lie in containers that are each other's parents."""
    source = kept(60, named("omegaconf.dictconfig.DictConfig") + b")\x81")
    above = named("omegaconf.listconfig.ListConfig") + b")\x81"
    above = kept(61, above) + value({"_content": listing([again(60)]), "_parent": again(60)}) + b"b"
    source += value({"_content": mapping({"name": "_obs_"}), "_parent": above}) + b"b"
    parts = {"_core_": opcodes.module(parameters={"w": opcodes.tensor()}, _sources=listing([source]))}
    parts |= {f"c{place}": opcodes.module(_sources=listing([again(60)])) for place in range(500)}
    return opcodes.pt(opcodes.record(policy=opcodes.agent(parts)))


@_bomb(_METTA)
def sources_in_a_circle():
    """Components whose _source_components are each other, and which are their own options."""
    first = kept(60, named("metta.agent.lib.lstm.LSTM") + b")\x81")
    state = {"_parameters": mapping({"w": opcodes.tensor()}), "_buffers": mapping({}), "_modules": mapping({})}
    others = {"_source_components": mapping({"a": again(60)}), "_nn_params": again(60), "_sources": again(60)}
    parts = {"a": first + value(state | others | {"hidden_size": again(60)}) + b"b"}
    return opcodes.pt(opcodes.record(policy=opcodes.agent(parts)))


@_bomb(_METTA)
def set_of_unhashable_records():
    """A set of objects, lists and tuples of numbers that would hash alike."""
    same = [value(((1 << 61) - 1) * place) for place in range(1, 500)]
    held = b"\x8f(" + made("a.B") + listing([1]) + mapping({"a": 1}) + b"".join(same) + b"\x90"
    return opcodes.pt(opcodes.record({"epoch": 1, "evals": {"a": held}}), proto=4)


@_bomb(_METTA)
def keys_that_are_objects():
    """Dicts with objects, calls, lists and storages for keys."""
    odd = [(made("a.B"), 1), (os_system(), 2), (listing([1]), 3), (opcodes.storage(), 4), ((1, 2), 5)]
    metadata = made("metta.agent.policy_metadata.PolicyMetadata") + opcodes.filled(
        [("epoch", 1), ("x", mapping(odd)), *odd]
    )
    return opcodes.pt(opcodes.record(metadata))


@_bomb(_METTA)
def names_twice():
    """Two parameters, two children and two values of one name each; a parameter and a child's have one as well."""
    twice = [("w", opcodes.tensor()), ("w", opcodes.tensor(shape=(4,), stride=(1,)))]
    held = {"a.w": opcodes.tensor(), "w": opcodes.tensor()}
    children = [("a", opcodes.module(parameters=mapping(twice))), ("a", opcodes.module(parameters=mapping(twice)))]
    policy = opcodes.module(parameters=held, children=mapping(children))
    return opcodes.pt(opcodes.record({"epoch": 1}, policy=policy))


@_bomb(_METTA)
def numbers_beyond_everything():
    """NaN, infinities, numbers of 300, 2,000 and more digits, and a float where a whole number belongs."""
    odd = {"epoch": 1e308, "nan": float("nan"), "inf": float("-inf"), "far": 10**300, "farther": 10**2400}
    return opcodes.pt(opcodes.record(odd | {"agent_step": float("nan"), "generation": 1 << 80}))


@_bomb(_METTA)
def number_of_a_million_digits():
    """LONG4 with 400,000 bytes: turning it into text takes quadratic time."""
    return opcodes.pt(opcodes.record({"epoch": b"\x8b" + struct.pack("<i", 415_242) + b"\x7f" * 415_242}))


@_bomb(_METTA)
def million_keys():
    """Metadata of nearly a million keys, as many as a pickle may have."""
    pairs = b"".join(text(f"{place}") + b"N" for place in range(990_000))
    return opcodes.pt(opcodes.record({"epoch": 1, "evals": b"}(" + pairs + b"u"}))


@_bomb(_METTA)
def million_keys_in_batches():
    """A PolicyMetadata that is given a million keys one by one."""
    pairs = b"".join(text(f"{place}") + b"Ns" for place in range(660_000))
    return opcodes.pt(opcodes.record(made("metta.agent.policy_metadata.PolicyMetadata") + pairs))


@_bomb(_METTA)
def texts_of_ten_megabytes():
    """A name and an address of the run of ten million letters each."""
    return opcodes.pt(opcodes.record(run_name="x" * 10_000_000, uri="file:///" + "y" * 10_000_000))


@_bomb(_METTA)
def words_for_the_terminal():
    """Escapes for terminals in names of classes, parameters and keys, and in the name of the run."""
    escape = "\x1b]0;owned\x07\x1b[2J\x9b31m\r\n"
    policy = opcodes.module(parameters={f"w{escape}": opcodes.tensor()}, name=escape)
    metadata = {"epoch": 1, escape: escape, "x": text("a") + text(f"B{escape}") + b"\x93)\x81"}
    return opcodes.pt(opcodes.record(metadata, policy=policy, run_name=escape))


@_bomb(_METTA)
def names_that_are_no_unicode():
    """Attributes, parameters and keys with lone surrogates, and ones that are bytes."""
    lone = text(b"\xed\xa0\x80")
    policy = opcodes.module(parameters=[(lone, opcodes.tensor()), (data(b"\xff"), opcodes.tensor())])
    return opcodes.pt(opcodes.record({"epoch": 1, "x": mapping([(lone, lone)])}, policy=policy, run_name=lone))


@_bomb(_METTA)
def parameters_that_are_no_unicode():
    """Only a parameter has a lone surrogate in its name."""
    policy = opcodes.module(parameters=[(text(b"\xed\xa0\x80"), opcodes.tensor())])
    return opcodes.pt(opcodes.record(policy=policy))


@_bomb(_METTA)
def values_told_of_that_are_no_unicode():
    """A key with a lone surrogate over a value that JSON has no word for: what is told of it names the key."""
    return opcodes.pt(
        opcodes.record({"epoch": 1, "evals": {"a": made("a.B")}}, uri=mapping([(text(b"\xed\xa0\x80"), made("a.B"))]))
    )


@_bomb(_METTA)
def attribute_that_is_no_utf8():
    """A text that is not UTF-8."""
    return opcodes.pt(opcodes.record({"epoch": 1, "x": text(b"\xff\xfe")}))


@_bomb(_METTA)
def class_named_by_sixty_megabytes():
    """A name of sixty million letters."""
    return opcodes.pt(opcodes.record({"epoch": 1, "x": text("a") + text("B" * 60_000_000) + b"\x93)\x81"}))


@_bomb(_METTA)
def million_names():
    """A million different names that are asked for."""
    return opcodes.pt(
        opcodes.record({"epoch": 1, "x": b"(" + b"".join(b"ca\nB%d\n" % place for place in range(1_000_000)) + b"t"})
    )


@_bomb(_METTA)
def two_million_dicts():
    """As many empty dicts as a pickle may have opcodes: 64 bytes of memory for one of the file."""
    return opcodes.pt(opcodes.record({"epoch": 1, "x": b"(" + b"}" * 1_999_000 + b"l"}))


@_bomb(_METTA)
def two_million_objects():
    """As many objects as a pickle may make, each the class of the next."""
    return opcodes.pt(opcodes.record({"epoch": 1, "x": named("a.B") + b")R" * 990_000}))


@_bomb(_METTA)
def many_objects_with_everything():
    """Objects that have an item, a pair and a state each."""
    one = again(1) + b")\x81" + b"Na" + b"NNs" + b"Nb"
    many = kept(1, named("a.B")) + b"0(" + one * 220_000 + b"l"
    return opcodes.pt(opcodes.record({"epoch": 1, "x": many}))


@_bomb(_METTA)
def package_of_large_pickles():
    """A package of sixteen pickles, each of as many opcodes as one pickle may have."""
    pickles = {f"evil{place}/x.pkl": b"(" + b"}" * 1_990_000 + b"l" for place in range(14)}
    pickles |= {"policy_record/data.pkl": opcodes.record(policy=NONE), "policy/model.pkl": packaged_agent()}
    return opcodes.package(pickles)


@_bomb(_METTA)
def package_whose_source_would_run():
    """A package with source code that makes a file when it is imported."""
    source = f"{_TOUCH}\n".encode()
    return opcodes.package(
        {"policy_record/data.pkl": opcodes.record(policy=NONE), "policy/model.pkl": packaged_agent()},
        sources={"metta/__init__.py": source, "metta/agent/__init__.py": source, ".data/extern_modules.py": source},
    )


@_bomb(_METTA)
def package_whose_members_climb():
    """A package with members outside of its folder."""
    return opcodes.package(
        {"policy_record/data.pkl": opcodes.record(policy=NONE), "policy/model.pkl": packaged_agent()},
        sources={"../../etc/cron.d/evil": b"x", "/etc/evil": b"x"},
    )


@_bomb(_METTA)
def state_that_is_huge_slots():
    """Objects whose state is the dict and the slots, neither of which is one."""
    odd = made("metta.agent.metta_agent.MettaAgent", (mapping({"_parameters": 1, "_modules": 2}), 3, 4, 5))
    return opcodes.pt(opcodes.record(policy=odd))


@_bomb(_METTA)
def record_in_its_own_metadata():
    """A record that is its own metadata and its own policy."""
    held = kept(50, named(_METTA) + b")\x81")
    return opcodes.pt(held + value({"_metadata": again(50), "_cached_policy": again(50), "uri": again(50)}) + b"b")


@_bomb()
def wrapped_weights_of_a_million():
    """A wrapped dict with a million names for one tensor."""
    tensor = kept(5, opcodes.tensor())
    held = b"}(" + text("0") + tensor + b"".join(text(f"{place}") + again(5) for place in range(1, 900_000)) + b"u"
    return opcodes.pt(mapping({"epoch": 1, "model_state_dict": held}))


@_bomb()
def wrapped_prefixes_without_end():
    """Wrapped weights whose names begin with 'module.' 100,000 times."""
    names = {"module." * 100_000 + f"w{place}": opcodes.tensor() for place in range(20)}
    return opcodes.pt(mapping({"epoch": 1, "model_state_dict": mapping(names)}))


@_bomb()
def wrapped_hooks():
    """Wrapped weights with backward hooks that call."""
    hooks = call("collections.OrderedDict") + opcodes.filled([("x", os_system())])
    evil = call("torch._utils._rebuild_tensor_v2", opcodes.storage(), 0, (4,), (1,), FALSE, hooks)
    return opcodes.pt(mapping({"epoch": 1, "model_state_dict": mapping({"w": evil})}))


@_bomb(_METTA)
def tensor_with_a_million_dimensions():
    """A parameter of a million dimensions."""
    tensor = opcodes.tensor(shape=(1,) * 100_000, stride=(1,) * 100_000)
    return opcodes.pt(opcodes.record(policy=opcodes.module(parameters={"w": tensor})))


@_bomb(_METTA)
def scalars_of_one_large_text():
    """100,000 numpy texts over the same 4 million bytes."""
    raw = kept(7, data(b"x" * 4_000_000))
    first = call("numpy._core.multiarray.scalar", kept(8, dtype("S4000000", "|")), raw)
    rest = call("numpy._core.multiarray.scalar", again(8), again(7))
    return opcodes.pt(opcodes.record({"epoch": 1, "evals": listing([first, *[rest] * 30_000])}))


@_bomb(_METTA)
def number_of_actions():
    """Action limits, embedding rows and observation shapes that are as large as a number can be."""
    policy = opcodes.agent(
        action_max_params=listing([(1 << 62)] * 3),
        agent_attributes={"obs_shape": listing([1 << 62, -5, "x"])},
        action_names=listing([number(5), NONE, again_self()]),
        hidden_size=1 << 900,
        core_num_layers=-1,
    )
    return opcodes.pt(opcodes.record({"epoch": 1}, policy=policy))


def again_self():
    """A list that holds itself."""
    return kept(77, b"]") + again(77) + b"a"


# --- values that are read again and again ---


@_bomb(_METTA)
def storages_of_their_own():
    """20,000 tensors in the metadata, each with a storage of its own."""
    tensors = [opcodes.tensor(str(place), 1, (1,), (1,)) for place in range(1, 20_000)]
    storages = {"0": opcodes.VALUES} | {str(place): bytes(4) for place in range(1, 20_000)}
    return opcodes.pt(opcodes.record({"epoch": 1, "evals": listing(tensors)}), storages)


@_bomb(_METTA)
def one_tensor_many_times():
    """One tensor of one element, 150,000 times in the metadata."""
    first = kept(5, opcodes.tensor(shape=(1,), stride=(1,)))
    return opcodes.pt(opcodes.record({"epoch": 1, "evals": listing([first, *[again(5)] * 150_000])}))


@_bomb(_METTA)
def one_compressed_tensor_many_times():
    """A storage of 32 MiB of zeros, compressed to 32 kB, of which 5,000 tensors in the metadata want one element."""
    first = kept(5, opcodes.tensor("1", 1 << 23, (1,), (1,)))
    root = opcodes.record({"epoch": 1, "evals": listing([first, *[again(5)] * 5_000])})
    return opcodes.compressed(root, {"0": opcodes.VALUES, "1": bytes(32 << 20)})


@_bomb(_METTA)
def damaged_storage_of_a_view():
    """A view in the metadata of a storage whose checksum is wrong: only the whole storage has one."""
    view = opcodes.tensor("1", 4, (2,), (1,))
    content = opcodes.pt(opcodes.record({"epoch": 1, "evals": view}), {"0": opcodes.VALUES, "1": b"\xaa" * 16})
    assert content.count(b"\xaa" * 16) == 1
    return content.replace(b"\xaa" * 16, b"\xaa" * 15 + b"\xab")


@_bomb(_METTA)
def one_path_many_times():
    """A path of a million letters, 100,000 times, and a device of as many."""
    path = kept(5, call("pathlib.PosixPath", "x" * 1_000_000))
    device = kept(6, call("torch.device", "x" * 1_000_000))
    return opcodes.pt(opcodes.record({"epoch": 1, "evals": listing([path, device, *[again(5), again(6)] * 50_000])}))


@_bomb(_METTA)
def sources_shared_by_components():
    """900 components with one list of 200,000 sources."""
    sources = kept(5, listing([NONE] * 200_000))
    part = opcodes.module(parameters={"w": opcodes.tensor()}, _sources=sources)
    parts = {"c0": part} | {f"c{place}": opcodes.module(_sources=again(5)) for place in range(1, 900)}
    return opcodes.pt(opcodes.record(policy=opcodes.agent(parts)))


@_bomb(_METTA)
def four_million_letters_beyond_ascii():
    """As many letters as metadata may have, each of which a terminal has to be asked about."""
    listed = listing([kept(5, text("é\u200b" * 500_000)), *[again(5)] * 3])
    return opcodes.pt(opcodes.record({"epoch": 1, "evals": listed}))


@_bomb(_METTA)
def texts_that_take_four_times_as_much():
    """A million short texts with one character that makes Python take four bytes for each."""
    texts = b"(" + text("xxxxxx😀") * 1_000_000 + b"l"
    return opcodes.pt(opcodes.record({"epoch": 1, "x": texts}))


@_bomb(_METTA)
def text_that_takes_four_times_as_much():
    """A text of 30 million letters with one such character."""
    return opcodes.pt(opcodes.record({"epoch": 1, "x": text("x" * 30_000_000 + "😀")}))


@_bomb(_METTA)
def compressed_pickle_of_64_mb():
    """A pickle that is compressed to a thousandth."""
    return opcodes.compressed(opcodes.record({"epoch": 1, "x": b"N0" * 33_000_000 + b"N"}))


@_bomb()
def views_of_every_second_byte():
    """A plain state dict of 400 views, each of which takes every second of 80,000 bytes, from another one on."""
    views = {
        f"w{place}": opcodes.tensor(
            count=80_000, shape=(39_000,), stride=(2,), offset=place, class_="torch.ByteStorage"
        )
        for place in range(400)
    }
    return opcodes.pt(mapping(views), {"0": bytes(80_000)})


@_bomb()
def wrapped_keys_of_many():
    """A wrapped dict with 400,000 keys that are no part of a policy."""
    keys = [(f"key{place}", NONE) for place in range(400_000)]
    return opcodes.pt(mapping([("epoch", 1), ("model_state_dict", mapping({"w": opcodes.tensor()})), *keys]))
