// A device for torch whose tensors lie in the CPU's memory, and which, like a GPU, refuses those of another device.
// `other_device.py` compiles it, and says what it is for.
#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/native/Resize.h>
#include <ATen/native/TensorFactories.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/extension.h>

using at::IntArrayRef, at::Tensor, c10::Device, c10::DeviceType, c10::SymInt, c10::SymIntArrayRef;
using std::optional;

const Device OURS(DeviceType::PrivateUse1, 0);
static bool is_ours(const Tensor& t) { return t.defined() && t.device().type() == OURS.type(); }


// What torch asks of a device: which one is chosen, and memory.

struct Guard final : c10::impl::NoOpDeviceGuardImpl<DeviceType::PrivateUse1> {
  Device getDevice() const override { return OURS; }
  Device exchangeDevice(Device) const override { return OURS; }
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard);

struct Memory final : c10::Allocator {
  c10::DataPtr allocate(size_t bytes) override {
    void* start = bytes ? c10::GetCPUAllocator()->raw_allocate(bytes) : nullptr;
    return {start, start, &give_back, OURS};
  }
  static void give_back(void* start) { if (start) c10::GetCPUAllocator()->raw_deallocate(start); }
  c10::DeleterFnPtr raw_deleter() const override { return &give_back; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override { memcpy(to, from, bytes); }
};
static Memory memory;
REGISTER_ALLOCATOR(DeviceType::PrivateUse1, &memory);

struct Hooks : at::PrivateUse1HooksInterface {
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  void resizePrivateUse1Bytes(const c10::Storage& storage, size_t bytes) const override {
    auto* old = storage.unsafeGetStorageImpl();
    auto fresh = memory.allocate(bytes);
    if (old->mutable_data() && bytes) memcpy(fresh.get(), old->mutable_data(), std::min(old->nbytes(), bytes));
    old->set_data_ptr_noswap(std::move(fresh));
    old->set_nbytes(bytes);
  }
};


// Tensors: made, viewed, and copied between here and the CPU.

using DType = optional<at::ScalarType>;
using Format = optional<at::MemoryFormat>;
using Layout = optional<at::Layout>;
const c10::DispatchKeySet KEY(c10::DispatchKey::PrivateUse1);

Tensor empty(IntArrayRef size, DType dtype, Layout, optional<Device>, optional<bool>, Format format) {
  return at::detail::empty_generic(size, &memory, KEY, c10::dtype_or_default(dtype), format);
}
Tensor empty_strided(IntArrayRef size, IntArrayRef stride, DType dtype, Layout, optional<Device>, optional<bool>) {
  return at::detail::empty_strided_generic(size, stride, &memory, KEY, c10::dtype_or_default(dtype));
}
Tensor as_strided(const Tensor& t, SymIntArrayRef size, SymIntArrayRef stride, optional<SymInt> offset) {
  auto start = offset ? optional<int64_t>(offset->guard_int(__FILE__, __LINE__)) : std::nullopt;
  return at::native::as_strided_tensorimpl(t, C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride), start);
}
Tensor view(const Tensor& t, SymIntArrayRef size) { return at::native::view(t, C10_AS_INTARRAYREF_SLOW(size)); }
Tensor reshape_alias(const Tensor& t, SymIntArrayRef size, SymIntArrayRef stride) {
  return at::native::_reshape_alias(t, C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride));
}
const Tensor& resize(const Tensor& t, SymIntArrayRef size, Format format) {
  return at::native::resize_(t, C10_AS_INTARRAYREF_SLOW(size), format);
}

static Tensor on_cpu(const Tensor& t) {     // the same memory
  if (!is_ours(t)) return t;
  auto* start = static_cast<char*>(t.storage().mutable_data());
  if (start) start += t.storage_offset()*t.itemsize();
  return at::from_blob(start, t.sizes(), t.strides(), t.options().device(at::kCPU).requires_grad(false));
}
static Tensor on_ours(const Tensor& t) { return t.defined() ? t.contiguous().to(OURS) : t; }

Tensor copy_from(const Tensor& from, const Tensor& to, bool) {
  at::AutoDispatchBelowADInplaceOrView below;
  at::NoGradGuard no_grad;
  on_cpu(to.detach()).copy_(on_cpu(from.detach()));
  return to;
}
Tensor copy_from_and_resize(const Tensor& from, const Tensor& to) {
  to.resize_(from.sizes());
  return copy_from(from, to, false);
}
at::Scalar item(const Tensor& t) { return on_cpu(t).item(); }


// All other operations: refuse a mixture, compute on the CPU.

static void refuse_mixture(bool has_ours, bool has_other, const std::string& name) {
  TORCH_CHECK(!(has_ours && has_other), "Expected all tensors to be on the same device, in ", name);
}

void compute(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  bool has_ours = false, has_other = false;
  auto look = [&](const Tensor& t) {
    has_ours |= is_ours(t);
    has_other |= t.defined() && !is_ours(t) && t.dim() > 0;     // a number may come from the CPU
  };
  for (auto& value : torch::jit::last(*stack, op.schema().arguments().size())) {
    if (value.isTensor()) look(value.toTensor());
    else if (value.isTensorList()) for (auto&& t : value.toTensorVector()) look(t);
    else if (value.isOptionalTensorList())      // indices in brackets, which may come from the CPU
      for (auto&& t : value.toOptionalTensorVector()) has_ours |= t && is_ours(*t);
  }
  refuse_mixture(has_ours, has_other, op.schema().name());
  at::native::cpu_fallback(op, stack);
}

using Bias = optional<Tensor>;
Tensor convolution(const Tensor& x, const Tensor& weight, const Bias& bias, SymIntArrayRef stride, SymIntArrayRef padding,
                   SymIntArrayRef dilation, bool transposed, SymIntArrayRef output_padding, SymInt groups) {
  refuse_mixture(is_ours(x) || is_ours(weight), !is_ours(x) || !is_ours(weight), "convolution");
  auto own_bias = bias && bias->defined() ? Bias(on_cpu(*bias)) : std::nullopt;
  return on_ours(at::convolution_symint(on_cpu(x), on_cpu(weight), own_bias, stride, padding, dilation, transposed,
                                        output_padding, groups));
}
std::tuple<Tensor, Tensor, Tensor> convolution_backward(
    const Tensor& grad, const Tensor& x, const Tensor& weight, SymIntArrayRef stride, SymIntArrayRef padding,
    SymIntArrayRef dilation, bool transposed, SymIntArrayRef output_padding, SymInt groups, std::array<bool, 3> wanted) {
  std::vector<SymInt> bias{transposed ? weight.sym_size(1)*groups : weight.sym_size(0)};
  auto [of_x, of_weight, of_bias] = at::convolution_backward_symint(
      on_cpu(grad), on_cpu(x), on_cpu(weight), SymIntArrayRef(bias), stride, padding, dilation, transposed,
      output_padding, groups, wanted);
  return {on_ours(of_x), on_ours(of_weight), on_ours(of_bias)};
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&compute>()); }
TORCH_LIBRARY_IMPL(_, AutocastPrivateUse1, m) { m.fallback(torch::CppFunction::makeFallthrough()); }
TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("as_strided", as_strided);
  m.impl("view", view);
  m.impl("_reshape_alias", reshape_alias);
  m.impl("resize_", resize);
  m.impl("unfold", at::native::unfold);
  m.impl("_copy_from", copy_from);
  m.impl("_copy_from_and_resize", copy_from_and_resize);
  m.impl("_local_scalar_dense", item);
  m.impl("convolution_overrideable", convolution);
  m.impl("convolution_backward_overrideable", convolution_backward);
}
PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  m.def("register_hooks", [] { at::RegisterPrivateUse1HooksInterface(new Hooks()); });
}
