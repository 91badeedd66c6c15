#include <doctest/doctest.h>

#include <set>
#include <vector>

#include "cimrobust/crossbar.hpp"
#include "values.hpp"

using namespace cimrobust;
using namespace cimrobust::testing;

namespace {

/// Every cell of every plane lies where offset says, once; the rest is padding and zero.
void check(const ArrayShape& shape, ColumnSide side, Simd simd) {
    CAPTURE(shape.cols);
    CAPTURE(static_cast<int>(side));
    CAPTURE(static_cast<int>(simd));
    Values values(11);
    std::vector<std::vector<float>> planes;
    planes.reserve(shape.planes);
    for (std::size_t plane = 0; plane < shape.planes; ++plane) {
        planes.push_back(values.floats(shape.groups * shape.rows * shape.cols, 1.0F, 2.0F));
    }
    const std::vector<std::span<const float>> cells(planes.begin(), planes.end());
    const CellStrides strides{shape.rows * shape.cols, shape.cols, 1};
    const PackedArray array = pack_array(shape, strides, cells, cells, side, simd);
    CHECK(first_difference(array.levels, array.variances) == kSame);
    std::set<std::size_t> used;
    std::size_t wrong = 0;
    for (std::size_t group = 0; group < shape.groups; ++group) {
        for (std::size_t row = 0; row < shape.rows; ++row) {
            for (std::size_t col = 0; col < shape.cols; ++col) {
                for (std::size_t plane = 0; plane < shape.planes; ++plane) {
                    const std::size_t block = col / array.block_cols();
                    const std::size_t at = array.offset(group, row / shape.tile_rows, plane, block) +
                                           row % shape.tile_rows * array.block_width(block) + col % array.block_cols();
                    used.insert(at);
                    wrong += array.levels.at(at) != planes[plane][group * strides.group + row * strides.row + col] ? 1U : 0U;
                }
            }
        }
    }
    CHECK(wrong == 0);
    CHECK(used.size() == shape.groups * shape.rows * shape.cols * shape.planes);
    for (std::size_t i = 0; i < array.levels.size(); ++i) {
        if (used.count(i) == 0 && array.levels[i] != 0.0F) {
            FAIL("padding must be zero at ", i);
        }
    }
}

}  // namespace

TEST_CASE("packed cells lie where the offsets say") {
    for (const Simd simd : {Simd::kScalar, Simd::kAvx2, Simd::kAvx512}) {
        for (const ColumnSide side : {ColumnSide::kRows, ColumnSide::kLanes}) {
            check({1, 1, 1, 1, 1}, side, simd);
            check({2, 7, 5, 3, 2}, side, simd);
            check({1, 6, 48, 6, 1}, side, simd);
            check({1, 6, 49, 128, 1}, side, simd);
            check({3, 4, 17, 1, 3}, side, simd);
        }
    }
}

TEST_CASE("an array without noise has no variances") {
    const std::vector<float> cells(6, 1.0F);
    const std::vector<std::span<const float>> planes{cells};
    CHECK(pack_array({1, 3, 2, 3, 1}, {6, 2, 1}, planes, {}, ColumnSide::kRows, Simd::kScalar).variances.empty());
}
