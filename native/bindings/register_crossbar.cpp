#include <pybind11/stl.h>

#include <array>
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "arrays.hpp"
#include "cimrobust/crossbar.hpp"

namespace cimrobust::bindings {

namespace {

using Sizes = std::array<std::size_t, 3>;

constexpr std::size_t kMaxSize = std::size_t{1} << 31;
constexpr std::size_t kMaxVolume = std::size_t{1} << 36;

/// Returns the product of sizes; raises ValueError where it is beyond everything that fits in memory.
std::size_t volume(std::initializer_list<std::size_t> sizes, const char* name) {
    std::size_t product = 1;
    for (const std::size_t size : sizes) {
        if (__builtin_mul_overflow(product, size, &product) || product > kMaxVolume) {
            throw py::value_error(std::string(name) + " must describe at most 2^36 values");
        }
    }
    return product;
}

void require_between(std::size_t value, std::size_t low, std::size_t high, const char* name) {
    if (value < low || value > high) {
        throw py::value_error(std::string(name) + " must be in " + std::to_string(low) + ".." + std::to_string(high) + ", got " +
                              std::to_string(value));
    }
}

void require_count(int value, int low, int high, const char* name) {
    if (value < low || value > high) {
        throw py::value_error(std::string(name) + " must be in " + std::to_string(low) + ".." + std::to_string(high) + ", got " +
                              std::to_string(value));
    }
}

std::vector<std::span<const float>> views(const std::vector<Array<float>>& arrays, const char* name, std::size_t least) {
    std::vector<std::span<const float>> spans;
    for (const auto& array : arrays) {
        spans.push_back(view(array, name));
        if (spans.back().size() < least) {
            throw py::value_error(std::string(name) + " must hold at least " + std::to_string(least) + " cells, got " +
                                  std::to_string(spans.back().size()));
        }
    }
    return spans;
}

PackedArray make_array(const std::vector<Array<float>>& planes, const std::vector<Array<float>>& variances, std::size_t groups,
                       std::size_t rows, std::size_t cols, std::size_t tile_rows, const Sizes& strides, const std::string& columns_on,
                       const std::string& simd) {
    require_between(groups, 1, kMaxSize, "groups");
    require_between(rows, 1, kMaxSize, "rows");
    require_between(cols, 1, kMaxSize, "cols");
    require_between(tile_rows, 1, kMaxSize, "tile_rows");
    require_between(planes.size(), 1, 64, "number of planes");
    if (!variances.empty()) {
        require_length(variances.size(), planes.size(), "variances");
    }
    if (columns_on != "rows" && columns_on != "lanes") {
        throw py::value_error("columns_on must be 'rows' or 'lanes', got '" + columns_on + "'");
    }
    volume({groups, rows, cols, planes.size()}, "cells");
    const std::size_t last =
        volume({groups - 1, strides[0]}, "strides") + volume({rows - 1, strides[1]}, "strides") + volume({cols - 1, strides[2]}, "strides");
    const auto cells = views(planes, "planes", last + 1);
    const auto noise = views(variances, "variances", last + 1);
    const Simd level = simd_named(simd);
    const ColumnSide side = columns_on == "rows" ? ColumnSide::kRows : ColumnSide::kLanes;
    const py::gil_scoped_release release;
    return pack_array({groups, rows, cols, tile_rows, planes.size()}, {strides[0], strides[1], strides[2]}, cells, noise, side, level);
}

/// What the two products have in common, checked.
struct Codings {
    InputCoding input;
    OutputCoding output;
    ReadNoise noise;
};

/// What Python hands over for them, by the names of the fields they become; levels and codes are (lowest, highest).
struct CodingArguments {
    const Array<float>& gain;
    const Array<float>& inverse_step;
    const Array<float>& column_scale;
    const Array<float>& bias;
    /// Empty where activations are not rounded.
    std::optional<float> inverse_scale;
    float zero_point;
    std::array<float, 2> levels;
    int num_passes;
    int bits_per_pass;
    std::array<float, 2> codes;
    float input_sum_gain;
    const Array<float>& knots;
    const Array<float>& slopes;
    std::uint64_t noise_key;
    std::uint64_t first_vector;
};

Codings codings_of(const PackedArray& array, const CodingArguments& arguments) {
    const ArrayShape& shape = array.shape;
    Codings codings;
    codings.output.gain = view(arguments.gain, "gain");
    codings.output.inverse_step = view(arguments.inverse_step, "inverse_step");
    codings.output.column_scale = view(arguments.column_scale, "column_scale");
    codings.output.bias = view(arguments.bias, "bias");
    const std::size_t conversions = shape.planes * shape.num_row_tiles() * shape.num_columns();
    require_length(codings.output.gain.size(), conversions, "gain");
    if (!codings.output.inverse_step.empty()) {
        require_length(codings.output.inverse_step.size(), conversions, "inverse_step");
    }
    require_length(codings.output.column_scale.size(), shape.num_columns(), "column_scale");
    require_length(codings.output.bias.size(), shape.num_columns(), "bias");
    codings.output.low = arguments.codes[0];
    codings.output.high = arguments.codes[1];
    codings.output.input_sum_gain = arguments.input_sum_gain;
    codings.input.rounds = arguments.inverse_scale.has_value();
    codings.input.inverse_scale = arguments.inverse_scale.value_or(1.0F);
    codings.input.zero_point = arguments.zero_point;
    codings.input.low = arguments.levels[0];
    codings.input.high = arguments.levels[1];
    codings.input.num_passes = arguments.num_passes;
    codings.input.bits_per_pass = arguments.bits_per_pass;
    require_count(arguments.num_passes, 1, 24, "num_passes");
    require_count(arguments.bits_per_pass, arguments.num_passes == 1 ? 0 : 1, 24, "bits_per_pass");
    if (arguments.num_passes > 1 && (arguments.num_passes * arguments.bits_per_pass > 24 || !codings.input.rounds)) {
        throw py::value_error("num_passes * bits_per_pass must be at most 24 and inputs rounded, got " +
                              std::to_string(arguments.num_passes) + " * " + std::to_string(arguments.bits_per_pass));
    }
    for (const auto& pair : {arguments.levels, arguments.codes}) {
        if (!(pair[0] <= pair[1])) {
            throw py::value_error("levels and codes must be (lowest, highest), got (" + std::to_string(pair[0]) + ", " +
                                  std::to_string(pair[1]) + ")");
        }
    }
    codings.noise.is_on = !array.variances.empty();
    codings.noise.key = arguments.noise_key;
    codings.noise.first_vector = arguments.first_vector;
    if (codings.noise.is_on) {
        codings.noise.table = table_of(arguments.knots, arguments.slopes);
    }
    return codings;
}

int checked_threads(int threads) {
    require_count(threads, 1, 1024, "threads");
    return threads;
}

/// Raises ValueError where x and y share memory.
void require_apart(std::span<const float> x, std::span<float> y) {
    const std::less<const float*> before;
    if (!x.empty() && !y.empty() && before(x.data(), y.data() + y.size()) && before(y.data(), x.data() + x.size())) {
        throw py::value_error("y must not share memory with x");
    }
}

ConvGeometry geometry_of(const PackedArray& array, std::size_t batch, std::size_t channels, const Sizes& in, const Sizes& out,
                         const Sizes& kernel, const Sizes& stride, const Sizes& dilation, const std::array<std::ptrdiff_t, 3>& pad) {
    ConvGeometry geometry{batch, channels, in, out, kernel, stride, dilation, pad};
    require_between(batch, 0, kMaxSize, "batch");
    require_between(channels, 1, kMaxSize, "channels");
    std::array<std::size_t, 3> length{};
    for (std::size_t axis = 0; axis < 3; ++axis) {
        require_between(in[axis], 0, kMaxSize, "in");
        require_between(out[axis], 1, kMaxSize, "out");
        require_between(kernel[axis], 1, kMaxSize, "kernel");
        require_between(stride[axis], 1, kMaxSize, "stride");
        require_between(dilation[axis], 1, kMaxSize, "dilation");
        if (pad[axis] < -static_cast<std::ptrdiff_t>(kMaxSize) || pad[axis] > static_cast<std::ptrdiff_t>(kMaxSize)) {
            throw py::value_error("pad must be in -2^31..2^31, got " + std::to_string(pad[axis]));
        }
        length[axis] = volume({out[axis] - 1, stride[axis]}, "conv") + volume({kernel[axis] - 1, dilation[axis]}, "conv") + stride[axis];
    }
    volume({length[0], length[1], length[2], channels}, "conv");
    if (volume({channels, kernel[0], kernel[1], kernel[2]}, "kernel") != array.shape.rows) {
        throw py::value_error("channels times kernel must be the number of rows, " + std::to_string(array.shape.rows));
    }
    if (array.side != ColumnSide::kRows) {
        throw py::value_error("the array must be packed with columns_on='rows' for a convolution");
    }
    return geometry;
}

void bound_conv(const PackedArray& array, const Array<float>& x, Array<float>& y, std::size_t batch, std::size_t channels, const Sizes& in,
                const Sizes& out, const Sizes& kernel, const Sizes& stride, const Sizes& dilation, const std::array<std::ptrdiff_t, 3>& pad,
                const Array<float>& gain, const Array<float>& inverse_step, const Array<float>& column_scale, const Array<float>& bias,
                std::optional<float> inverse_scale, float zero_point, std::array<float, 2> levels, int num_passes, int bits_per_pass,
                std::array<float, 2> codes, float input_sum_gain, const Array<float>& knots, const Array<float>& slopes,
                std::uint64_t noise_key, std::uint64_t first_vector, int threads) {
    const ConvGeometry geometry = geometry_of(array, batch, channels, in, out, kernel, stride, dilation, pad);
    const Codings codings = codings_of(array, {gain, inverse_step, column_scale, bias, inverse_scale, zero_point, levels, num_passes,
                                               bits_per_pass, codes, input_sum_gain, knots, slopes, noise_key, first_vector});
    const auto from = view(x, "x");
    const auto to = writable(y, "y");
    require_length(from.size(), volume({batch, array.shape.groups, channels, in[0], in[1], in[2]}, "x"), "x");
    require_length(to.size(), volume({batch, array.shape.num_columns(), out[0], out[1], out[2]}, "y"), "y");
    require_apart(from, to);
    checked_threads(threads);
    const py::gil_scoped_release release;
    multiply_conv(from, geometry, array, codings.input, codings.output, codings.noise, threads, to);
}

void bound_vectors(const PackedArray& array, const Array<float>& x, Array<float>& y, std::size_t num_vectors, const Array<float>& gain,
                   const Array<float>& inverse_step, const Array<float>& column_scale, const Array<float>& bias,
                   std::optional<float> inverse_scale, float zero_point, std::array<float, 2> levels, int num_passes, int bits_per_pass,
                   std::array<float, 2> codes, float input_sum_gain, const Array<float>& knots, const Array<float>& slopes,
                   std::uint64_t noise_key, std::uint64_t first_vector, int threads) {
    if (array.side != ColumnSide::kLanes) {
        throw py::value_error("the array must be packed with columns_on='lanes' for products of vectors");
    }
    const Codings codings = codings_of(array, {gain, inverse_step, column_scale, bias, inverse_scale, zero_point, levels, num_passes,
                                               bits_per_pass, codes, input_sum_gain, knots, slopes, noise_key, first_vector});
    const auto from = view(x, "x");
    const auto to = writable(y, "y");
    require_length(from.size(), volume({num_vectors, array.shape.groups, array.shape.rows}, "x"), "x");
    require_length(to.size(), volume({num_vectors, array.shape.num_columns()}, "y"), "y");
    require_apart(from, to);
    checked_threads(threads);
    const py::gil_scoped_release release;
    multiply_vectors(from, num_vectors, array, codings.input, codings.output, codings.noise, threads, to);
}

}  // namespace

void register_crossbar(py::module_& module) {
    py::class_<PackedArray>(module, "CrossbarArray")
        .def(py::init(&make_array), py::arg("planes"), py::arg("variances"), py::kw_only(), py::arg("groups"), py::arg("rows"),
             py::arg("cols"), py::arg("tile_rows"), py::arg("strides"), py::arg("columns_on"), py::arg("simd") = "best")
        .def("conv", &bound_conv, py::arg("x").noconvert(), py::arg("y").noconvert(), py::kw_only(), py::arg("batch"), py::arg("channels"),
             py::arg("in_size"), py::arg("out_size"), py::arg("kernel"), py::arg("stride"), py::arg("dilation"), py::arg("pad"),
             py::arg("gain").noconvert(), py::arg("inverse_step").noconvert(), py::arg("column_scale").noconvert(),
             py::arg("bias").noconvert(), py::arg("inverse_scale"), py::arg("zero_point"), py::arg("levels"), py::arg("num_passes"),
             py::arg("bits_per_pass"), py::arg("codes"), py::arg("input_sum_gain"), py::arg("knots").noconvert(),
             py::arg("slopes").noconvert(), py::arg("noise_key"), py::arg("first_vector"), py::arg("threads") = 1)
        .def("vectors", &bound_vectors, py::arg("x").noconvert(), py::arg("y").noconvert(), py::kw_only(), py::arg("num_vectors"),
             py::arg("gain").noconvert(), py::arg("inverse_step").noconvert(), py::arg("column_scale").noconvert(),
             py::arg("bias").noconvert(), py::arg("inverse_scale"), py::arg("zero_point"), py::arg("levels"), py::arg("num_passes"),
             py::arg("bits_per_pass"), py::arg("codes"), py::arg("input_sum_gain"), py::arg("knots").noconvert(),
             py::arg("slopes").noconvert(), py::arg("noise_key"), py::arg("first_vector"), py::arg("threads") = 1);
}

}  // namespace cimrobust::bindings
