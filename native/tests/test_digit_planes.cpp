#include "crossbar/digit_planes.hpp"

#include <doctest/doctest.h>

#include <vector>

#include "array_lanes.hpp"
#include "crossbar/scalar_floats.hpp"
#include "values.hpp"

using namespace cimrobust;
using namespace cimrobust::testing;

namespace {

/// Every digit that a piece's outputs read must lie where base and row_offset say.
template <class Lanes>
void check(const ConvGeometry& g, std::size_t groups, const InputCoding& input, const detail::ConvPiece& piece, std::size_t band_axis) {
    Values values(7);
    const auto x = values.floats(g.batch * groups * g.channels * g.in_volume());
    PackedArray array;
    array.shape = {groups, g.channels * g.kernel_volume(), 1, 128, 1};
    const OutputCoding output;
    const ReadNoise noise;
    const detail::ConvJob job{x, g, array, input, output, noise, {}, band_axis};
    DigitPlanes<Lanes> planes(job, piece);
    const std::array<std::size_t, 3> begin{band_axis == 0 ? piece.band_begin : 0, band_axis == 1 ? piece.band_begin : 0, 0};
    std::size_t wrong = 0;
    for (std::size_t group = 0; group < groups; ++group) {
        planes.fill(group);
        for (std::size_t image = 0; image < piece.num_images; ++image) {
            for (std::size_t position = 0; position < planes.outputs(0) * planes.outputs(1) * planes.outputs(2); ++position) {
                const std::array<std::size_t, 3> o{position / (planes.outputs(1) * planes.outputs(2)),
                                                   position / planes.outputs(2) % planes.outputs(1), position % planes.outputs(2)};
                for (std::size_t row = 0; row < array.shape.rows; ++row) {
                    const std::size_t tap = row % g.kernel_volume();
                    const std::array<std::size_t, 3> k{tap / (g.kernel[1] * g.kernel[2]), tap / g.kernel[2] % g.kernel[1],
                                                       tap % g.kernel[2]};
                    std::size_t index = ((piece.first_image + image) * groups + group) * g.channels + row / g.kernel_volume();
                    bool is_inside = true;
                    for (std::size_t axis = 0; axis < 3; ++axis) {
                        const auto at = static_cast<std::ptrdiff_t>((begin[axis] + o[axis]) * g.stride[axis] + k[axis] * g.dilation[axis]) -
                                        g.pad[axis];
                        is_inside = is_inside && at >= 0 && at < static_cast<std::ptrdiff_t>(g.in[axis]);
                        index = index * g.in[axis] + (is_inside ? static_cast<std::size_t>(at) : 0);
                    }
                    const float level = level_of(is_inside ? x[index] : 0.0F, input);
                    float rest = std::fabs(level);
                    for (int pass = 0; pass < input.num_passes; ++pass) {
                        float digit = level;
                        if (input.num_passes > 1) {
                            take_digit(&rest, &level, 1, input.bits_per_pass, &digit);
                        }
                        wrong += planes.pass(pass)[planes.base(image, o[0], o[1]) + o[2] + planes.row_offset(row)] != digit ? 1U : 0U;
                    }
                }
            }
        }
    }
    CHECK(wrong == 0);
}

template <class Lanes>
void check_geometries() {
    const InputCoding one{true, 5.0F, 1.0F, -15.0F, 15.0F, 1, 0};
    const InputCoding serial{true, 5.0F, 2.0F, -15.0F, 15.0F, 2, 2};
    const ConvGeometry image{3, 2, {1, 7, 9}, {1, 4, 5}, {1, 3, 2}, {1, 2, 2}, {1, 1, 2}, {0, 1, 1}};
    const ConvGeometry volume{1, 1, {5, 4, 6}, {4, 3, 2}, {2, 2, 3}, {1, 1, 3}, {1, 1, 1}, {0, 0, 1}};
    const ConvGeometry padding{1, 1, {1, 2, 2}, {1, 3, 9}, {1, 2, 2}, {1, 1, 1}, {1, 1, 1}, {0, 4, 7}};
    const ConvGeometry cut{1, 1, {1, 5, 9}, {1, 2, 3}, {1, 2, 2}, {1, 1, 1}, {1, 1, 1}, {0, -1, -3}};
    for (const InputCoding& input : {one, serial, InputCoding{}}) {
        check<Lanes>(image, 1, input, {0, 3, 0, 4}, 1);
        check<Lanes>(image, 2, input, {1, 2, 0, 4}, 1);
        check<Lanes>(image, 1, input, {2, 1, 1, 3}, 1);
        check<Lanes>(image, 1, input, {2, 1, 3, 1}, 1);
        check<Lanes>(volume, 1, input, {0, 1, 0, 4}, 0);
        check<Lanes>(volume, 1, input, {0, 1, 2, 2}, 0);
        check<Lanes>(padding, 1, input, {0, 1, 0, 3}, 1);
        check<Lanes>(cut, 1, input, {0, 1, 0, 2}, 1);
    }
}

}  // namespace

TEST_CASE("digits lie where the offsets say, one plain lane") { check_geometries<ScalarFloats>(); }

TEST_CASE("digits lie where the offsets say, four lanes") { check_geometries<ArrayLanes<4, 4, 1>>(); }
