#include "arrays.hpp"
#include "cimrobust/placement.hpp"

namespace cimrobust::bindings {

namespace {

void bound_quantise(const Array<float>& values, const Array<std::int32_t>& group, const Array<double>& scale, std::int32_t max_level,
                    Array<float>& nominal) {
    const auto v = view(values, "values");
    const auto g = view(group, "group");
    const auto s = view(scale, "scale");
    const auto n = writable(nominal, "nominal");
    require_length(n.size(), v.size(), "nominal");
    require_groups(g, v.size(), s.size());
    if (max_level < 1) {
        throw py::value_error("max_level must be at least 1, got " + std::to_string(max_level));
    }
    const py::gil_scoped_release release;
    quantise(v, g, s, max_level, n);
}

void bound_emit_box(const Array<float>& nominal, const Array<std::int32_t>& group, const Array<float>& group_lo,
                    const Array<float>& group_hi, bool mirrors_negative, Array<float>& lo, Array<float>& hi) {
    const auto n = view(nominal, "nominal");
    const auto g = view(group, "group");
    const auto low = view(group_lo, "group_lo");
    const auto high = view(group_hi, "group_hi");
    const auto out_lo = writable(lo, "lo");
    const auto out_hi = writable(hi, "hi");
    require_length(out_lo.size(), n.size(), "lo");
    require_length(out_hi.size(), n.size(), "hi");
    require_length(high.size(), low.size(), "group_hi");
    require_groups(g, n.size(), low.size());
    const py::gil_scoped_release release;
    emit_box(n, g, low, high, mirrors_negative, out_lo, out_hi);
}

}  // namespace

void register_placement(py::module_& module) {
    module.def("quantise", &bound_quantise, py::arg("values").noconvert(), py::arg("group").noconvert(), py::arg("scale").noconvert(),
               py::arg("max_level"), py::arg("nominal").noconvert());
    module.def("emit_box", &bound_emit_box, py::arg("nominal").noconvert(), py::arg("group").noconvert(), py::arg("group_lo").noconvert(),
               py::arg("group_hi").noconvert(), py::arg("mirrors_negative"), py::arg("lo").noconvert(), py::arg("hi").noconvert());
}

}  // namespace cimrobust::bindings
