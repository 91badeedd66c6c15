#pragma once

#include <cmath>
#include <cstddef>
#include <span>
#include <vector>

#include "cimrobust/crossbar.hpp"
#include "crossbar/coding.hpp"
#include "crossbar/noise.hpp"
#include "values.hpp"

namespace cimrobust::testing {

/// What a crossbar product should come to by the words of crossbar.hpp, in plain loops; the same bits as the kernel's.
///
/// Holds everything that a product needs. Cells lie as (group, column, row) in every plane.
struct Product {
    ArrayShape shape;
    std::vector<std::vector<float>> planes;
    std::vector<std::vector<float>> variances;
    std::vector<float> gain;
    std::vector<float> inverse_step;
    std::vector<float> column_scale;
    std::vector<float> bias;
    Tables tables = normal_table();
    InputCoding input{true, 5.0F, 1.0F, -15.0F, 15.0F, 1, 0};
    float input_sum_gain = 0.0F;
    std::uint64_t first_vector = 9;

    Product(const ArrayShape& of, Values& values, bool is_noisy, bool converts) : shape(of) {
        const std::size_t conversions = shape.planes * shape.num_row_tiles() * shape.num_columns();
        const std::size_t cells = shape.groups * shape.rows * shape.cols;
        for (std::size_t plane = 0; plane < shape.planes; ++plane) {
            planes.push_back(values.floats(cells));
            if (is_noisy) {
                variances.push_back(values.floats(cells, 0.0F, 0.5F));
            }
        }
        gain = values.floats(conversions);
        if (converts) {
            inverse_step = values.floats(conversions, 0.05F, 0.5F);
        }
        column_scale = values.floats(shape.num_columns());
        bias = values.floats(shape.num_columns());
    }

    PackedArray pack(ColumnSide side, Simd simd) const {
        const std::vector<std::span<const float>> cells(planes.begin(), planes.end());
        const std::vector<std::span<const float>> noise_cells(variances.begin(), variances.end());
        return pack_array(shape, {shape.rows * shape.cols, 1, shape.rows}, cells, noise_cells, side, simd);
    }
    OutputCoding output() const { return {gain, inverse_step, -7.0F, 7.0F, column_scale, bias, input_sum_gain}; }
    ReadNoise noise() const { return {!variances.empty(), tables.view(), 42, first_vector}; }

    /// Output of one column of one group for the vector of that number; activations: the rows of the group.
    float operator()(std::size_t group, std::size_t col, std::size_t vector, std::span<const float> activations) const {
        const OutputCoding coding = output();
        const auto passes = static_cast<std::size_t>(input.num_passes);
        std::vector<float> digits(passes * shape.rows);
        for (std::size_t row = 0; row < shape.rows; ++row) {
            const float level = level_of(activations[row], input);
            float rest = std::fabs(level);
            digits[row] = level;
            for (std::size_t pass = 0; pass < passes && passes > 1; ++pass) {
                take_digit(&rest, &level, 1, input.bits_per_pass, &digits[pass * shape.rows + row]);
            }
        }
        float total = 0.0F;
        float input_sum = 0.0F;
        for (std::size_t tile = 0; tile < shape.num_row_tiles(); ++tile) {
            for (std::size_t pass = 0; pass < passes; ++pass) {
                float sum = 0.0F;
                for (std::size_t row = tile * shape.tile_rows; row < shape.rows && row < (tile + 1) * shape.tile_rows; ++row) {
                    sum += digits[pass * shape.rows + row];
                }
                input_sum = std::fma(sum, weight_of(pass), input_sum);
            }
            for (std::size_t plane = 0; plane < shape.planes; ++plane) {
                for (std::size_t pass = 0; pass < passes; ++pass) {
                    const float code = convert(group, col, vector, tile, plane, pass, digits);
                    const std::size_t column = (plane * shape.num_row_tiles() + tile) * shape.num_columns() + group * shape.cols + col;
                    total = std::fma(code, gain[column] * weight_of(pass), total);
                }
            }
        }
        if (coding.input_sum_gain != 0.0F) {
            total = std::fma(-coding.input_sum_gain, input_sum, total);
        }
        return std::fma(total, column_scale[group * shape.cols + col], bias[group * shape.cols + col]);
    }

   private:
    float weight_of(std::size_t pass) const { return power_of_two(static_cast<int>(pass) * input.bits_per_pass); }

    float convert(std::size_t group, std::size_t col, std::size_t vector, std::size_t tile, std::size_t plane, std::size_t pass,
                  const std::vector<float>& digits) const {
        float sum = 0.0F;
        float variance = 0.0F;
        for (std::size_t row = tile * shape.tile_rows; row < shape.rows && row < (tile + 1) * shape.tile_rows; ++row) {
            const std::size_t cell = (group * shape.cols + col) * shape.rows + row;
            const float digit = digits[pass * shape.rows + row];
            sum = std::fma(planes[plane][cell], digit, sum);
            if (!variances.empty()) {
                variance = std::fma(variances[plane][cell], digit * digit, variance);
            }
        }
        const auto passes = static_cast<std::size_t>(input.num_passes);
        if (!variances.empty()) {
            const QuantileTable table = tables.view();
            const auto stage = static_cast<std::uint32_t>((tile * shape.planes + plane) * passes + pass);
            const NoiseArgs args{nullptr, &table, noise().key, 0, stage, 0, 1};
            sum += std::sqrt(variance) * normal_draw(args, first_vector + vector, static_cast<std::uint32_t>(group * shape.cols + col));
        }
        if (inverse_step.empty()) {
            return sum;
        }
        const std::size_t column = (plane * shape.num_row_tiles() + tile) * shape.num_columns() + group * shape.cols + col;
        return clipped(std::nearbyint(sum * inverse_step[column]), output().low, output().high);
    }
};

}  // namespace cimrobust::testing
