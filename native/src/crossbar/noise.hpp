#pragma once

#include <cstddef>
#include <cstdint>

#include "cimrobust/crossbar.hpp"
#include "cimrobust/philox.hpp"
#include "quantile.hpp"
#include "scalar_lanes.hpp"

namespace cimrobust {
namespace {

/// Read noise of one register block.
struct NoiseArgs {
    /// Variance of a read of every cell, in squared levels; the same layout as the cells of the block (BlockArgs, the side of the array).
    const float* variances;
    /// Quantiles of the standard normal distribution, one table.
    const QuantileTable* table;
    /// Key of the stream of draws.
    std::uint64_t key;
    /// Number of the vector (output position) of row 0 or lane 0 of the block, through all calls; the others count up from it.
    std::uint64_t first_vector;
    /// Number of the conversion: (tile * planes + plane) * passes + pass.
    std::uint32_t stage;
    /// Number of the column of row 0 or lane 0 of the block, through all groups.
    std::uint32_t first_col;
    /// Lanes in use; the padding behind them gets no noise.
    std::size_t num_lanes;
};

/// Standard normal draw of the sum of one column for one vector.
///
/// Read errors of cells are independent and normal, so their sum is normal with the sum of the variances: one draw a sum, not one a cell.
inline float normal_draw(const NoiseArgs& noise, std::uint64_t vector, std::uint32_t col) {
    const auto low = static_cast<std::uint32_t>(vector);
    const auto high = static_cast<std::uint32_t>(vector >> 32);
    return quantile<ScalarLanes>(philox({low, high, noise.stage, col}, noise.key)[0], *noise.table, kOnlyTable);
}

}  // namespace
}  // namespace cimrobust
