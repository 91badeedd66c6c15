#include <doctest/doctest.h>

#include "reference_product.hpp"

using namespace cimrobust;
using namespace cimrobust::testing;

namespace {

/// Activations under the kernel at one output position of one image and group; 0 in the padding.
std::vector<float> receptive_field(std::span<const float> x, const ConvGeometry& g, std::size_t groups, std::size_t image,
                                   std::size_t group, std::size_t position) {
    const std::array<std::size_t, 3> out{position / (g.out[1] * g.out[2]), position / g.out[2] % g.out[1], position % g.out[2]};
    std::vector<float> field;
    for (std::size_t channel = 0; channel < g.channels; ++channel) {
        const float* source = x.data() + ((image * groups + group) * g.channels + channel) * g.in_volume();
        for (std::size_t tap = 0; tap < g.kernel_volume(); ++tap) {
            const std::array<std::size_t, 3> k{tap / (g.kernel[1] * g.kernel[2]), tap / g.kernel[2] % g.kernel[1], tap % g.kernel[2]};
            std::size_t index = 0;
            bool is_inside = true;
            for (std::size_t axis = 0; axis < 3; ++axis) {
                const auto at = static_cast<std::ptrdiff_t>(out[axis] * g.stride[axis] + k[axis] * g.dilation[axis]) - g.pad[axis];
                is_inside = is_inside && at >= 0 && at < static_cast<std::ptrdiff_t>(g.in[axis]);
                index = index * g.in[axis] + (is_inside ? static_cast<std::size_t>(at) : 0);
            }
            field.push_back(is_inside ? source[index] : 0.0F);
        }
    }
    return field;
}

/// Every instruction set and number of threads against plain loops.
void check(const Product& product, const ConvGeometry& geometry, Values& values) {
    const ArrayShape& shape = product.shape;
    CAPTURE(geometry.batch);
    CAPTURE(geometry.channels);
    CAPTURE(shape.groups);
    CAPTURE(shape.cols);
    CAPTURE(shape.tile_rows);
    const std::size_t out_volume = geometry.out_volume();
    const auto x = values.floats(geometry.batch * shape.groups * geometry.channels * geometry.in_volume());
    std::vector<float> expected(geometry.batch * shape.num_columns() * out_volume);
    for (std::size_t image = 0; image < geometry.batch; ++image) {
        for (std::size_t group = 0; group < shape.groups; ++group) {
            for (std::size_t position = 0; position < out_volume; ++position) {
                const auto field = receptive_field(x, geometry, shape.groups, image, group, position);
                for (std::size_t col = 0; col < shape.cols; ++col) {
                    expected[(image * shape.num_columns() + group * shape.cols + col) * out_volume + position] =
                        product(group, col, image * out_volume + position, field);
                }
            }
        }
    }
    for (int level = 0; level <= static_cast<int>(best_simd()); ++level) {
        for (const int threads : {1, 3}) {
            CAPTURE(level);
            CAPTURE(threads);
            std::vector<float> y(expected.size());
            const PackedArray array = product.pack(ColumnSide::kRows, static_cast<Simd>(level));
            multiply_conv(x, geometry, array, product.input, product.output(), product.noise(), threads, y);
            CHECK(first_difference(y, expected) == kSame);
        }
    }
}

struct Columns {
    std::size_t groups = 1;
    std::size_t cols = 1;
    std::size_t tile_rows = 128;
    std::size_t planes = 1;
};

void check_geometry(const ConvGeometry& geometry, const Columns& columns) {
    Values values(geometry.in_volume());
    const ArrayShape shape{columns.groups, geometry.channels * geometry.kernel_volume(), columns.cols, columns.tile_rows, columns.planes};
    for (const bool is_noisy : {false, true}) {
        check(Product(shape, values, is_noisy, !is_noisy), geometry, values);
    }
}

}  // namespace

TEST_CASE("one pixel, one tap") {
    check_geometry({1, 1, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}, {0, 0, 0}}, {});
    check_geometry({1, 3, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}, {0, 0, 0}}, {1, 50, 2});
}

TEST_CASE("no image at all") { check_geometry({0, 1, {1, 4, 4}, {1, 2, 2}, {1, 3, 3}, {1, 1, 1}, {1, 1, 1}, {0, 0, 0}}, {1, 2}); }

TEST_CASE("images with groups, planes and tiles") {
    check_geometry({3, 2, {1, 9, 9}, {1, 7, 7}, {1, 3, 3}, {1, 1, 1}, {1, 1, 1}, {0, 0, 0}}, {2, 5, 8, 2});
}

TEST_CASE("volumes with strides, dilations and padding") {
    check_geometry({2, 1, {4, 6, 5}, {3, 3, 2}, {2, 3, 2}, {1, 2, 3}, {1, 1, 2}, {0, 1, 1}}, {1, 11, 5, 2});
}

TEST_CASE("one axis, padded behind") { check_geometry({1, 1, {1, 1, 70}, {1, 1, 72}, {1, 1, 3}, {1, 1, 1}, {1, 1, 1}, {0, 0, 2}}, {3, 1}); }

TEST_CASE("a stride that steps over inputs") {
    check_geometry({2, 1, {1, 11, 11}, {1, 3, 3}, {1, 2, 2}, {1, 4, 5}, {1, 1, 1}, {0, 0, 0}}, {1, 3});
}

TEST_CASE("padding in front beyond the whole image") {
    check_geometry({1, 1, {1, 2, 2}, {1, 3, 9}, {1, 2, 2}, {1, 1, 1}, {1, 1, 1}, {0, 4, 7}}, {1, 2});
}

TEST_CASE("an image that negative padding cuts") {
    check_geometry({1, 2, {1, 7, 8}, {1, 4, 4}, {1, 2, 3}, {1, 1, 1}, {1, 1, 1}, {0, -2, -1}}, {1, 2});
}

TEST_CASE("rows of outputs at the edges of registers") {
    for (const std::size_t width : {1U, 2U, 7U, 8U, 9U, 15U, 16U, 17U, 24U, 25U, 47U, 48U, 49U}) {
        check_geometry({1, 1, {1, 3, width + 1}, {1, 2, width}, {1, 2, 2}, {1, 1, 1}, {1, 1, 1}, {0, 0, 0}}, {1, 2});
    }
}

TEST_CASE("columns at the edges of register blocks") {
    for (const std::size_t cols : {3U, 4U, 5U, 7U, 8U, 9U, 17U}) {
        check_geometry({1, 1, {1, 4, 4}, {1, 3, 3}, {1, 2, 2}, {1, 1, 1}, {1, 1, 1}, {0, 0, 0}}, {1, cols, 3});
    }
}

TEST_CASE("images that share a piece and images that are cut into bands") {
    check_geometry({70, 1, {1, 4, 4}, {1, 3, 3}, {1, 2, 2}, {1, 1, 1}, {1, 1, 1}, {0, 0, 0}}, {1, 2});
    check_geometry({1, 20, {1, 300, 200}, {1, 30, 20}, {1, 2, 2}, {1, 10, 10}, {1, 1, 1}, {0, 0, 0}}, {1, 2, 30});
    check_geometry({2, 70, {16, 32, 32}, {4, 4, 4}, {2, 2, 2}, {4, 8, 8}, {1, 1, 1}, {0, 0, 0}}, {1, 2});
}

TEST_CASE("digits one after the other, and a reference column") {
    const ConvGeometry geometry{2, 3, {1, 6, 7}, {1, 6, 4}, {1, 3, 3}, {1, 1, 2}, {1, 1, 1}, {0, 1, 1}};
    Values values(3);
    Product product({2, 27, 9, 10, 2}, values, true, true);
    product.input = {true, 5.0F, 2.0F, -15.0F, 15.0F, 2, 2};
    product.input_sum_gain = 0.5F;
    check(product, geometry, values);
    product.input = {true, 9.0F, 0.0F, 0.0F, 127.0F, 7, 1};
    check(product, geometry, values);
}

TEST_CASE("activations that are not rounded, and a reference column") {
    const ConvGeometry geometry{2, 3, {1, 6, 7}, {1, 4, 5}, {1, 3, 3}, {1, 1, 1}, {1, 1, 1}, {0, 0, 0}};
    Values values(4);
    Product product({1, 27, 9, 10, 1}, values, false, false);
    product.input = InputCoding{};
    product.input_sum_gain = -0.25F;
    check(product, geometry, values);
}
