#include <pybind11/stl.h>

#include <vector>

#include "arrays.hpp"
#include "cimrobust/program.hpp"

namespace cimrobust::bindings {

namespace {

std::string name_of(Simd simd) {
    switch (simd) {
        case Simd::kAvx512:
            return "avx512";
        case Simd::kAvx2:
            return "avx2";
        case Simd::kScalar:
            break;
    }
    return "scalar";
}

}  // namespace

Simd simd_named(const std::string& name) {
    for (int level = 0; level <= static_cast<int>(best_simd()); ++level) {
        if (name == name_of(static_cast<Simd>(level))) {
            return static_cast<Simd>(level);
        }
    }
    if (name != "best") {
        throw py::value_error("simd must be 'best' or one of simd_levels(), got '" + name + "'");
    }
    return best_simd();
}

QuantileTable table_of(const Array<float>& knots, const Array<float>& slopes) {
    const QuantileTable table{view(knots, "knots"), view(slopes, "slopes")};
    require_length(table.knots.size(), 2 * QuantileTable::kHalfSize, "knots");
    require_length(table.slopes.size(), 2 * QuantileTable::kHalfSize, "slopes");
    return table;
}

namespace {

std::vector<std::string> simd_levels() {
    std::vector<std::string> levels;
    for (int level = 0; level <= static_cast<int>(best_simd()); ++level) {
        levels.push_back(name_of(static_cast<Simd>(level)));
    }
    return levels;
}

void bound_program_weights(const Array<float>& nominal, const Array<std::int32_t>& group, const Array<float>& scale, const Array<float>& lo,
                           const Array<float>& hi, const Array<float>& knots, const Array<float>& slopes, std::uint64_t key,
                           std::uint64_t trial, int num_slices, int bits_per_device, bool is_pair, bool mirrors_negative, bool clamps,
                           Array<float>& out, const std::string& simd) {
    const ProgramLayer layer{view(nominal, "nominal"), view(group, "group"), view(scale, "scale"), view(lo, "lo"), view(hi, "hi")};
    const auto programmed = writable(out, "out");
    require_length(programmed.size(), layer.nominal.size(), "out");
    require_length(layer.lo.size(), layer.scale.size(), "lo");
    require_length(layer.hi.size(), layer.scale.size(), "hi");
    require_groups(layer.group, layer.nominal.size(), layer.scale.size());
    if (layer.nominal.size() >= (std::uint64_t{1} << 32)) {
        throw py::value_error("nominal must have fewer than 2^32 values, got " + std::to_string(layer.nominal.size()));
    }
    require_slices(num_slices, bits_per_device, 31);
    const QuantileTable table = table_of(knots, slopes);
    const Simd level = simd_named(simd);
    const py::gil_scoped_release release;
    program_weights(layer, ProgramSpec{num_slices, bits_per_device, is_pair, mirrors_negative, clamps}, table, StreamKey{key, trial}, level,
                    programmed);
}

Array<float> bound_draw_deviations(std::size_t num_weights, std::size_t num_devices, const Array<float>& knots, const Array<float>& slopes,
                                   std::uint64_t key, std::uint64_t trial) {
    if (num_devices < 1 || num_devices > 64 || num_weights > (std::size_t{1} << 28)) {
        throw py::value_error("num_devices must be in 1..64 and num_weights at most 2^28, got " + std::to_string(num_devices) + " and " +
                              std::to_string(num_weights));
    }
    const QuantileTable table = table_of(knots, slopes);
    Array<float> deviations({static_cast<py::ssize_t>(num_weights), static_cast<py::ssize_t>(num_devices)});
    const std::span<float> flat(deviations.mutable_data(), num_weights * num_devices);
    {
        const py::gil_scoped_release release;
        draw_deviations(num_weights, num_devices, table, StreamKey{key, trial}, flat);
    }
    return deviations;
}

}  // namespace

void register_programming(py::module_& module) {
    module.attr("TABLE_HALF_SIZE") = QuantileTable::kHalfSize;
    module.attr("TABLE_SEGMENT_BITS") = QuantileTable::kSegmentBits;
    module.def("simd_levels", &simd_levels);
    module.def("program_weights", &bound_program_weights, py::arg("nominal").noconvert(), py::arg("group").noconvert(),
               py::arg("scale").noconvert(), py::arg("lo").noconvert(), py::arg("hi").noconvert(), py::arg("knots").noconvert(),
               py::arg("slopes").noconvert(), py::kw_only(), py::arg("key"), py::arg("trial"), py::arg("num_slices"),
               py::arg("bits_per_device"), py::arg("is_pair"), py::arg("mirrors_negative"), py::arg("clamps"), py::arg("out").noconvert(),
               py::arg("simd") = "best");
    module.def("draw_deviations", &bound_draw_deviations, py::arg("num_weights"), py::arg("num_devices"), py::arg("knots").noconvert(),
               py::arg("slopes").noconvert(), py::kw_only(), py::arg("key"), py::arg("trial"));
}

}  // namespace cimrobust::bindings
