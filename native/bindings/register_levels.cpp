#include "cimrobust/levels.hpp"

#include "arrays.hpp"
#include "cimrobust/program.hpp"

namespace cimrobust::bindings {

namespace {

/// Raises ValueError unless the slices hold every level and fit 31 bits.
void require_coding(const LevelCoding& coding) {
    require_slices(coding.num_slices, coding.bits_per_device, 8);
    const int bits = coding.num_slices * coding.bits_per_device;
    const std::uint64_t highest = std::uint64_t{coding.max_level} + coding.level_offset;
    if (coding.max_level < 1 || coding.max_level >= (1U << 24) || highest >= (std::uint64_t{1} << bits)) {
        throw py::value_error("max_level must be in 1..2^24 - 1 and fit its slices, got " + std::to_string(coding.max_level));
    }
    if (coding.level_offset != 0 && (coding.is_pair || coding.mirrors_negative || coding.level_offset <= coding.max_level)) {
        throw py::value_error("level_offset must exceed max_level and is for neither pairs nor mirrored weights, got " +
                              std::to_string(coding.level_offset));
    }
}

/// Raises ValueError unless weights, groups and scales belong together.
void require_layer(std::span<const float> nominal, std::span<const std::int32_t> group, std::size_t num_scales) {
    require_groups(group, nominal.size(), num_scales);
    if (nominal.size() >= (std::uint64_t{1} << 32)) {
        throw py::value_error("nominal must have fewer than 2^32 values, got " + std::to_string(nominal.size()));
    }
}

void bound_emit_level_box(const Array<float>& nominal, const Array<std::int32_t>& group, const Array<double>& scale,
                          const Array<double>& level_lo, const Array<double>& level_hi, Array<float>& lo, Array<float>& hi,
                          const LevelCoding& coding) {
    const auto n = view(nominal, "nominal");
    const auto g = view(group, "group");
    const auto s = view(scale, "scale");
    const auto low = view(level_lo, "level_lo");
    const auto high = view(level_hi, "level_hi");
    const auto out_lo = writable(lo, "lo");
    const auto out_hi = writable(hi, "hi");
    require_coding(coding);
    require_layer(n, g, s.size());
    require_length(low.size(), std::size_t{1} << coding.bits_per_device, "level_lo");
    require_length(high.size(), low.size(), "level_hi");
    require_length(out_lo.size(), n.size(), "lo");
    require_length(out_hi.size(), n.size(), "hi");
    const py::gil_scoped_release release;
    emit_level_box(n, g, s, low, high, coding, out_lo, out_hi);
}

void bound_emit_levels(const Array<float>& nominal, const Array<std::int32_t>& group, const Array<float>& scale, Array<float>& levels,
                       const LevelCoding& coding) {
    const auto n = view(nominal, "nominal");
    const auto g = view(group, "group");
    const auto s = view(scale, "scale");
    const auto out = writable(levels, "levels");
    require_coding(coding);
    require_layer(n, g, s.size());
    require_length(out.size(), n.size() * static_cast<std::size_t>(coding.num_devices()), "levels");
    const py::gil_scoped_release release;
    emit_levels(n, g, s, coding, out);
}

void bound_program_levels(const Array<float>& nominal, const Array<std::int32_t>& group, const Array<float>& scale, const Array<float>& lo,
                          const Array<float>& hi, const Array<float>& knots, const Array<float>& slopes, const LevelCoding& coding,
                          const Faults& faults, std::uint64_t key, std::uint64_t trial, bool clamps, Array<float>& out,
                          Array<float>& devices, const std::string& simd) {
    const LevelLayer layer{view(nominal, "nominal"), view(group, "group"), view(scale, "scale"), view(lo, "lo"), view(hi, "hi")};
    const QuantileTable table{view(knots, "knots"), view(slopes, "slopes")};
    const LevelOutput output{writable(out, "out"), writable(devices, "devices")};
    const std::size_t size = layer.nominal.size();
    require_coding(coding);
    require_layer(layer.nominal, layer.group, layer.scale.size());
    if (clamps) {
        require_length(layer.lo.size(), size, "lo");
        require_length(layer.hi.size(), size, "hi");
    }
    const std::size_t num_tables = table.num_tables() == 1 ? 1 : std::size_t{1} << coding.bits_per_device;
    require_length(table.knots.size(), num_tables * QuantileTable::kSize, "knots");
    require_length(table.slopes.size(), table.knots.size(), "slopes");
    if (!output.programmed.empty()) {
        require_length(output.programmed.size(), size, "out");
    }
    if (!output.devices.empty()) {
        require_length(output.devices.size(), size * static_cast<std::size_t>(coding.num_devices()), "devices");
    }
    const Simd level = simd_named(simd);
    const py::gil_scoped_release release;
    program_levels(layer, LevelSpec{coding, clamps, faults}, table, StreamKey{key, trial}, level, output);
}

}  // namespace

void register_levels(py::module_& module) {
    py::class_<LevelCoding>(module, "LevelCoding")
        .def(py::init([](int num_slices, int bits_per_device, bool is_pair, bool mirrors_negative, std::uint32_t max_level,
                         std::uint32_t level_offset, bool has_remainder) {
                 return LevelCoding{num_slices, bits_per_device, is_pair, mirrors_negative, max_level, level_offset, has_remainder};
             }),
             py::kw_only(), py::arg("num_slices"), py::arg("bits_per_device"), py::arg("is_pair"), py::arg("mirrors_negative"),
             py::arg("max_level"), py::arg("level_offset"), py::arg("has_remainder"));
    py::class_<Faults>(module, "Faults")
        .def(py::init([](std::uint64_t key, std::uint32_t low_below, std::uint32_t high_above, float high_level) {
                 return Faults{key, low_below, high_above, high_level};
             }),
             py::kw_only(), py::arg("key"), py::arg("low_below"), py::arg("high_above"), py::arg("high_level"));
    module.def("emit_level_box", &bound_emit_level_box, py::arg("nominal").noconvert(), py::arg("group").noconvert(),
               py::arg("scale").noconvert(), py::arg("level_lo").noconvert(), py::arg("level_hi").noconvert(), py::arg("lo").noconvert(),
               py::arg("hi").noconvert(), py::kw_only(), py::arg("coding"));
    module.def("emit_levels", &bound_emit_levels, py::arg("nominal").noconvert(), py::arg("group").noconvert(),
               py::arg("scale").noconvert(), py::arg("levels").noconvert(), py::kw_only(), py::arg("coding"));
    module.def("program_levels", &bound_program_levels, py::arg("nominal").noconvert(), py::arg("group").noconvert(),
               py::arg("scale").noconvert(), py::arg("lo").noconvert(), py::arg("hi").noconvert(), py::arg("knots").noconvert(),
               py::arg("slopes").noconvert(), py::kw_only(), py::arg("coding"), py::arg("faults"), py::arg("key"), py::arg("trial"),
               py::arg("clamps"), py::arg("out").noconvert(), py::arg("devices").noconvert(), py::arg("simd") = "best");
}

}  // namespace cimrobust::bindings
