"""The reader of compiled programs: loops, products, bytes, what is sent."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from instruct_jax.parallel import slices
from instruct_jax.planning import collectives, counts, hlo, loops

LAYERS, ROWS, WIDTH = 5, 8, 16


def module_of(function, *arguments):
  compiled = jax.jit(function).lower(*arguments).compile()
  return hlo.parse(compiled.as_text())


def layer(x, kernel):
  return jnp.tanh(x @ kernel), None


def scanned(x, kernels):
  return jax.lax.scan(layer, x, kernels)[0]


def unrolled(x, kernels):
  for kernel in kernels:
    x, _ = layer(x, kernel)
  return x


X = jax.ShapeDtypeStruct((ROWS, WIDTH), jnp.float32)
KERNELS = jax.ShapeDtypeStruct((LAYERS, WIDTH, WIDTH), jnp.float32)


@pytest.mark.parametrize("passes", ["forward", "backward"])
def test_a_loop_computes_as_much_as_the_same_unrolled(passes):
  def of(function):
    if passes == "forward":
      return function
    return jax.grad(lambda x, kernels: function(x, kernels).sum(), (0, 1))

  loop = counts.work(module_of(of(scanned), X, KERNELS))
  flat = counts.work(module_of(of(unrolled), X, KERNELS))
  products = LAYERS * (3 if passes == "backward" else 1)
  assert loop.flops == flat.flops == products * 2 * ROWS * WIDTH * WIDTH
  assert not loop.endless
  # XLA itself counts a turn.
  said = jax.jit(of(scanned)).lower(X, KERNELS).compile().cost_analysis()
  assert said["flops"] < loop.flops


def test_loops_in_loops_multiply():
  def twice(x, kernels):
    return jax.lax.fori_loop(0, 3, lambda _, x: scanned(x, kernels), x)

  module = module_of(twice, X, KERNELS)
  assert counts.work(module).flops == 3 * LAYERS * 2 * ROWS * WIDTH * WIDTH


def test_a_loop_reads_of_stacked_layers_a_slice_a_turn():
  loop = counts.work(module_of(scanned, X, KERNELS)).hbm_bytes
  flat = counts.work(module_of(unrolled, X, KERNELS)).hbm_bytes
  kernels = 4 * LAYERS * WIDTH * WIDTH
  assert loop >= kernels
  # Taken whole in each turn it were five times the kernels and more.
  assert loop < 3 * flat


def test_a_loop_whose_end_the_data_decide_says_how_far_it_may_go():
  def some(count, x, kernel):
    def turn(_, x):
      return layer(x, kernel)[0]

    return slices.loop(count, turn, x, most=7)

  count = jax.ShapeDtypeStruct((), jnp.int32)
  kernel = jax.ShapeDtypeStruct((WIDTH, WIDTH), jnp.float32)
  work = counts.work(module_of(some, count, X, kernel))
  assert work.flops == 7 * 2 * ROWS * WIDTH * WIDTH
  assert not work.endless


def test_a_loop_of_which_nobody_knows_counts_once_and_is_named():
  def until_small(x, kernel):
    return jax.lax.while_loop(
      lambda x: (x > 1).any(), lambda x: layer(x, kernel)[0], x
    )

  kernel = jax.ShapeDtypeStruct((WIDTH, WIDTH), jnp.float32)
  work = counts.work(module_of(until_small, X, kernel))
  assert work.flops == 2 * ROWS * WIDTH * WIDTH
  assert len(work.endless) == 1


@pytest.mark.parametrize("split", [(8,), (2, 4)])
def test_sums_between_devices_count_each_turn(split):
  mesh = Mesh(np.array(jax.devices()).reshape(split), ("a", "b")[: len(split)])
  axis = mesh.axis_names[-1]

  def of(turns):
    @functools.partial(
      jax.shard_map, mesh=mesh, in_specs=P(axis), out_specs=P()
    )
    def summed(x):
      def turn(_, total):
        return jax.lax.psum(jnp.tanh(x + total.sum()), axis)

      return jax.lax.fori_loop(0, turns, turn, jnp.zeros(x.shape))

    return summed

  x = jax.ShapeDtypeStruct(
    (64,), jnp.float32, sharding=NamedSharding(mesh, P(axis))
  )
  n = split[-1]
  size = 4 * 64 // n
  sent = collectives.traffic(module_of(of(6), x), [0] * 8)
  assert sent.counts == {"all-reduce": 6}
  assert sent.ici_bytes == 6 * 2 * (n - 1) / n * size
  assert sent.dcn_bytes == 0


def test_what_is_sent_between_slices_goes_over_the_other_network():
  mesh = Mesh(np.array(jax.devices()).reshape(2, 4), ("data", "fsdp"))

  @functools.partial(
    jax.shard_map, mesh=mesh, in_specs=P(("data", "fsdp")), out_specs=P()
  )
  def summed(x):
    return jax.lax.psum(x, ("data", "fsdp"))

  place = NamedSharding(mesh, P(("data", "fsdp")))
  x = jax.ShapeDtypeStruct((64,), jnp.float32, sharding=place)
  sent = collectives.traffic(module_of(summed, x), [0] * 4 + [1] * 4)
  size = 4 * 64 / 8
  assert sent.ici_bytes == 2 * 3 / 4 * size
  assert sent.dcn_bytes == 2 * 1 / 2 * size / 4


@pytest.mark.parametrize(
  ("text", "rest", "groups"),
  [
    ("{{0,1},{2,3}}", "", [[0, 1], [2, 3]]),
    ("[2,2]<=[4]", "", [[0, 1], [2, 3]]),
    ("[2,2]<=[2,2]T(1,0)", "", [[0, 2], [1, 3]]),
    ("mesh['a'=2,'b'=2]", " {'b'}", [[0, 1], [2, 3]]),
    ("mesh['a'=2,'b'=2]", " {'a'}", [[0, 2], [1, 3]]),
    ("mesh['a'=2,'b'=2]", " {'a','b'}", [[0, 1, 2, 3]]),
    ("mesh['a'=4]", " {'a':(1)2}", [[0, 2], [1, 3]]),
    ("mesh['a'=4]", " {'a':(2)2}", [[0, 1], [2, 3]]),
    ("{}", "", [[0, 1, 2, 3]]),
  ],
)
def test_groups_of_devices_as_xla_prints_them(text, rest, groups):
  assert collectives.groups_of(text, text + rest, 4) == groups
  line = (
    "ENTRY %main () -> f32[8] {\n"
    "  ROOT %x = f32[8]{0} all-gather(), channel_id=1,"
    f" replica_groups={text}{rest}, dimensions={{0}}\n}}\n"
  )
  printed = hlo.parse(line).computations["main"]["x"]
  assert printed.attribute("replica_groups") == text
  sent = collectives.traffic(hlo.parse(line), [0] * 4)
  n = len(groups[0])
  assert sent.ici_bytes == (n - 1) / n * 32


@pytest.mark.parametrize(
  ("printed", "received"),
  [  # Of f32[4], by each of two devices.
    ("f32[8]{0} all-gather(%x)", 16),
    # One that goes on beside others says what it was given, too.
    ("(f32[4]{0}, f32[8]{0}) all-gather-start(%x)", 16),
    ("f32[4]{0} all-reduce(%x)", 2 * 8),
    ("f32[4]{0} all-reduce-start(%x)", 2 * 8),
    ("f32[2]{0} reduce-scatter(%x)", 8),
    ("f32[4]{0} all-to-all(%x)", 8),
    ("f32[4]{0} ragged-all-to-all(%x)", 8),
    ("f32[4]{0} collective-broadcast(%x)", 8),
    ("f32[4]{0} collective-permute(%x)", 16),
    ("(f32[4]{0}, f32[4]{0}) collective-permute-start(%x)", 16),
    ("f32[4]{0} negate(%x)", 0),
  ],
)
@pytest.mark.parametrize("slices", [(0, 0), (0, 1)])
def test_bytes_of_every_operation(printed, received, slices):
  pairs = ", source_target_pairs={{0,1},{1,0}}"
  text = (
    "ENTRY %main (x: f32[4]) -> f32[4] {\n  %x = f32[4]{0} parameter(0)\n"
    f"  ROOT %y = {printed}, channel_id=1, replica_groups={{{{0,1}}}}"
    f"{pairs if 'permute' in printed else ''}\n}}\n"
  )
  sent = collectives.traffic(hlo.parse(text), slices)
  found = (sent.ici_bytes, sent.dcn_bytes)
  assert found == ((0, received) if slices[1] else (received, 0))


# What libtpu makes of sums and gatherings over two slices, each with a sum
# within the slices before.
SLICES = """HloModule jit_f, is_scheduled=true

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %c = f32[] add(%a, %b)
}

ENTRY %main (x: f32[6,8,128]) -> f32[6,8,128] {
  %x = f32[6,8,128]{2,1,0:T(8,128)} parameter(0)
  %near = f32[6,8,128]{2,1,0:T(8,128)} all-reduce(%x), channel_id=9, replica_groups={{0,1},{2,3}}, use_global_device_ids=true, to_apply=%add
  %free = token[] after-all()
  %send.1 = (f32[6,8,128]{2,1,0:T(8,128)}, u32[], token[]) send(%near, %free), channel_id=2, is_host_transfer=true, frontend_attributes={_xla_host_transfer_handler_name="xla_megascale_runtime",_xla_host_transfer_rendezvous="all-reduce.1_0",_xla_megascale_reduce_operation="SUM",_xla_megascale_target="{1,2}x{0:1}",_xla_megascale_transfer_type="ALL_REDUCE"}
  %recv.1 = (f32[6,8,128]{2,1,0:T(8,128)}, u32[], token[]) recv(%free), channel_id=1, is_host_transfer=true, frontend_attributes={_xla_host_transfer_handler_name="xla_megascale_runtime",_xla_host_transfer_rendezvous="all-reduce.1_0",_xla_megascale_reduce_operation="SUM",_xla_megascale_target="{1,2}x{0:1}",_xla_megascale_transfer_type="ALL_REDUCE"}
  %sent.1 = token[] send-done(%send.1), channel_id=2, is_host_transfer=true, frontend_attributes={_xla_host_transfer_handler_name="xla_megascale_runtime"}
  %received.1 = (f32[6,8,128]{2,1,0:T(8,128)}, token[]) recv-done(%recv.1), channel_id=1, is_host_transfer=true, frontend_attributes={_xla_host_transfer_handler_name="xla_megascale_runtime"}
  %all = f32[6,8,128]{2,1,0:T(8,128)} get-tuple-element(%received.1), index=0
  %part = f32[3,8]{1,0} slice(%all), slice={[0:3], [0:8], [0:1]}
  %send.2 = (f32[3,8]{1,0}, u32[], token[]) send(%part, %free), channel_id=7, is_host_transfer=true, frontend_attributes={_xla_host_transfer_handler_name="xla_megascale_runtime",_xla_host_transfer_rendezvous="all-gather.6_0",_xla_megascale_target="{1,2}x{0:1}",_xla_megascale_transfer_type="ALL_GATHER"}
  %recv.2 = (f32[6,8]{1,0}, u32[], token[]) recv(%free), channel_id=6, is_host_transfer=true, frontend_attributes={_xla_host_transfer_handler_name="xla_megascale_runtime",_xla_host_transfer_rendezvous="all-gather.6_0",_xla_megascale_target="{1,2}x{0:1}",_xla_megascale_transfer_type="ALL_GATHER"}
  %send.3 = (f32[5]{0}, u32[], token[]) send(%part, %free), channel_id=8, is_host_transfer=true, frontend_attributes={_xla_host_transfer_handler_name="somebody_else",_xla_host_transfer_rendezvous="print"}
  ROOT %out = f32[6,8,128]{2,1,0:T(8,128)} copy(%all)
}
"""  # noqa: E501


def test_what_slices_of_tpus_send_each_other_is_a_host_s_transfer():
  sent = collectives.traffic(hlo.parse(SLICES), [0, 0, 1, 1])
  size, gathered = 4 * 6 * 8 * 128, 4 * 6 * 8
  # Of two: half of it, there and back, and half of what is gathered.
  assert sent.dcn_bytes == size + gathered / 2
  assert sent.ici_bytes == size
  assert sent.counts == {"all-reduce": 2, "all-gather": 1}
  assert sent.by_operation["all-gather"] == gathered / 2


# As a TPU's compiler prints: loops without a count, copies of what counts, a
# batch axis of a dot as dilated space, memory of its own for what is near.
TPU = """HloModule jit_f, is_scheduled=true

%body (p: (s32[], f32[8,16], f32[5,16,16])) -> (s32[], f32[8,16], f32[5,16,16]) {
  %p = (s32[]{:T(128)S(6)}, f32[8,16]{1,0:T(8,128)S(1)}, f32[5,16,16]{2,1,0}) parameter(0)
  %i = s32[]{:T(128)S(6)} get-tuple-element(%p), index=0
  %same = s32[]{:T(128)S(6)} copy(%i)
  %one = s32[]{:T(128)S(6)} constant(2)
  %next = s32[]{:T(128)S(6)} add(%same, %one)
  %x = f32[8,16]{1,0:T(8,128)S(1)} get-tuple-element(%p), index=1
  %all = f32[5,16,16]{2,1,0} get-tuple-element(%p), index=2
  %zero = s32[]{:T(128)S(6)} constant(0)
  %kernel = f32[1,16,16]{2,1,0:S(1)} dynamic-slice(%all, %i, %zero, %zero), dynamic_slice_sizes={1,16,16}
  %flat = f32[16,16]{1,0:S(1)} bitcast(%kernel)
  %y = f32[8,16]{1,0:T(8,128)S(1)} convolution(%x, %flat), dim_labels=bf_io->bf
  ROOT %t = (s32[]{:T(128)S(6)}, f32[8,16]{1,0:T(8,128)S(1)}, f32[5,16,16]{2,1,0}) tuple(%next, %y, %all)
}

%cond (p.1: (s32[], f32[8,16], f32[5,16,16])) -> pred[] {
  %p.1 = (s32[]{:T(128)S(6)}, f32[8,16]{1,0:T(8,128)S(1)}, f32[5,16,16]{2,1,0}) parameter(0)
  %i.1 = s32[]{:T(128)S(6)} get-tuple-element(%p.1), index=0
  %end = s32[]{:T(128)S(6)} constant(5)
  ROOT %less = pred[]{:T(512)S(6)} compare(%i.1, %end), direction=LT
}

ENTRY %main (x.1: f32[8,16], k: f32[5,16,16]) -> f32[8,16] {
  %x.1 = f32[8,16]{1,0:T(8,128)} parameter(0)
  %k = f32[5,16,16]{2,1,0} parameter(1)
  %start = s32[]{:T(128)S(6)} constant(0)
  %begin = s32[]{:T(128)S(6)} copy(%start)
  %near = (f32[8,16]{1,0:T(8,128)S(1)}, f32[8,16]{1,0:T(8,128)}, u32[]{:S(2)}) copy-start(%x.1)
  %there = f32[8,16]{1,0:T(8,128)S(1)} copy-done(%near)
  %state = (s32[]{:T(128)S(6)}, f32[8,16]{1,0:T(8,128)S(1)}, f32[5,16,16]{2,1,0}) tuple(%begin, %there, %k)
  %loop = (s32[]{:T(128)S(6)}, f32[8,16]{1,0:T(8,128)S(1)}, f32[5,16,16]{2,1,0}) while(%state), condition=%cond, body=%body, metadata={op_name="jit(f)/while"}
  ROOT %out = f32[8,16]{1,0:T(8,128)S(1)} get-tuple-element(%loop), index=1
}
"""  # noqa: E501


def test_reads_what_a_tpu_s_compiler_prints():
  module = hlo.parse(TPU)
  times = loops.times(module)
  assert times["body"] == 3  # 0, 2, 4
  work = counts.work(module)
  assert work.flops == 3 * 2 * 8 * 16 * 16
  # The rows once, a kernel a turn; what lies near costs nothing.
  assert work.hbm_bytes == 4 * 8 * 16 + 3 * 4 * 16 * 16


def test_a_batch_of_products_is_no_more_than_its_products():
  text = (
    "%a = f32[4,8,16]{2,1,0} parameter(0)\n"
    "%b = f32[4,16,32]{2,1,0} parameter(1)\n"
    "ROOT %c = f32[4,8,32]{2,1,0} convolution(%a, %b),"
    " window={size=4 stride=3 lhs_dilate=4}, dim_labels=0bf_0io->0bf"
  )
  lines = hlo.parse("ENTRY %main () -> f32[4,8,32] {\n" + text + "\n}\n")
  main = lines.computations["main"]
  assert counts.flops_of(main["c"], main) == 4 * 2 * 8 * 16 * 32


def test_a_kernel_says_its_own_flops():
  line = (
    "ENTRY %main () -> f32[8] {\n"
    '  ROOT %k = f32[8]{0} custom-call(), custom_call_target="tpu_custom_call",'
    ' backend_config={"custom_call_config":{"body":"x","cost_estimate":'
    '{"flops":"1234","transcendentals":"5","bytes_accessed":"6"}}}\n}\n'
  )
  main = hlo.parse(line).computations["main"]
  assert counts.flops_of(main["k"], main) == 1234
