#include "cimrobust/crossbar.hpp"

#include <cmath>
#include <cstring>
#include <random>

#include "check.hpp"

using namespace cimrobust;

namespace {

std::vector<float> random_values(std::size_t count, std::mt19937& engine) {
    std::normal_distribution<float> normal;
    std::vector<float> values(count);
    for (float& value : values) {
        value = normal(engine);
    }
    return values;
}

/// Everything a product needs, owned.
struct Problem {
    ArrayShape shape;
    std::vector<std::vector<float>> planes;
    std::vector<float> gain, inverse_step, column_scale, bias, knots, slopes;
    InputCoding input;
    bool has_noise = false;

    Problem(const ArrayShape& of, std::mt19937& engine, bool noisy) : shape(of), has_noise(noisy) {
        const std::size_t conversions = shape.planes * shape.num_row_tiles() * shape.num_columns();
        for (std::size_t plane = 0; plane < shape.planes; ++plane) {
            planes.push_back(random_values(shape.groups * shape.rows * shape.cols, engine));
        }
        gain = random_values(conversions, engine);
        inverse_step = random_values(conversions, engine);
        column_scale = random_values(shape.num_columns(), engine);
        bias = random_values(shape.num_columns(), engine);
        knots = random_values(2 * QuantileTable::kHalfSize, engine);
        slopes = random_values(2 * QuantileTable::kHalfSize, engine);
        input = {true, 5.0F, 1.0F, -15.0F, 15.0F, 2, 2};
    }

    PackedArray pack(ColumnSide side, Simd simd) const {
        std::vector<std::span<const float>> cells(planes.begin(), planes.end());
        std::vector<std::vector<float>> squares = planes;
        for (auto& plane : squares) {
            for (float& value : plane) {
                value = value * value;
            }
        }
        std::vector<std::span<const float>> variances;
        if (has_noise) {
            variances.assign(squares.begin(), squares.end());
        }
        return pack_array(shape, {shape.rows * shape.cols, 1, shape.rows}, cells, variances, side, simd);
    }

    OutputCoding output() const { return {gain, inverse_step, -7.0F, 7.0F, column_scale, bias, 0.5F}; }
    ReadNoise noise() const { return {has_noise, {knots, slopes}, 42, 9}; }
};

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

void check_conv(const ConvGeometry& geometry, std::size_t groups, std::size_t cols, std::size_t tile_rows, bool noisy,
                std::mt19937& engine) {
    const Problem problem({groups, geometry.channels * geometry.kernel_volume(), cols, tile_rows, 2}, engine, noisy);
    const auto x = random_values(geometry.batch * groups * geometry.channels * geometry.in_volume(), engine);
    std::vector<float> expected;
    for (int level = 0; level <= static_cast<int>(best_simd()); ++level) {
        for (const int threads : {1, 3}) {
            std::vector<float> y(geometry.batch * groups * cols * geometry.out_volume());
            const PackedArray array = problem.pack(ColumnSide::kRows, static_cast<Simd>(level));
            multiply_conv(x, geometry, array, problem.input, problem.output(), problem.noise(), threads, y);
            if (expected.empty()) {
                expected = y;
            }
            CHECK(same_bits(y, expected));
        }
    }
}

void check_vectors(std::size_t num_vectors, std::size_t groups, std::size_t rows, std::size_t cols, bool noisy, std::mt19937& engine) {
    const Problem problem({groups, rows, cols, 7, 1}, engine, noisy);
    const auto x = random_values(num_vectors * groups * rows, engine);
    std::vector<float> expected;
    for (int level = 0; level <= static_cast<int>(best_simd()); ++level) {
        for (const int threads : {1, 3}) {
            std::vector<float> y(num_vectors * groups * cols);
            const PackedArray array = problem.pack(ColumnSide::kLanes, static_cast<Simd>(level));
            multiply_vectors(x, num_vectors, array, problem.input, problem.output(), problem.noise(), threads, y);
            if (expected.empty()) {
                expected = y;
            }
            CHECK(same_bits(y, expected));
        }
    }
}

}  // namespace

int main() {
    std::mt19937 engine(1);
    for (const bool noisy : {false, true}) {
        check_conv({3, 2, {1, 9, 9}, {1, 7, 7}, {1, 3, 3}, {1, 1, 1}, {1, 1, 1}, {0, 0, 0}}, 2, 5, 8, noisy, engine);
        check_conv({2, 1, {4, 6, 5}, {3, 3, 2}, {2, 3, 2}, {1, 2, 3}, {1, 1, 2}, {0, 1, 1}}, 1, 11, 5, noisy, engine);
        check_conv({1, 1, {1, 1, 70}, {1, 1, 72}, {1, 1, 3}, {1, 1, 1}, {1, 1, 1}, {0, 0, 2}}, 3, 1, 128, noisy, engine);
        check_conv({1, 3, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}, {0, 0, 0}}, 1, 50, 2, noisy, engine);
        check_vectors(1, 1, 1, 1, noisy, engine);
        check_vectors(67, 2, 20, 50, noisy, engine);
        check_vectors(130, 1, 9, 97, noisy, engine);
    }
    check_conv({1, 20, {1, 300, 200}, {1, 150, 100}, {1, 2, 2}, {1, 2, 2}, {1, 1, 1}, {0, 0, 0}}, 1, 2, 30, true, engine);
    return 0;
}
