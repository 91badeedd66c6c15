#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "cimrobust/program.hpp"

namespace cimrobust {

/// One layer's arrays: `groups` matrices of rows x cols cells, cut every tile_rows word lines; `planes` of cells are read one after the
/// other.
///
/// A plane is what one analog-to-digital conversion sees of a weight: a bit slice, or one side of it where pairs are subtracted digitally.
struct ArrayShape {
    std::size_t groups = 1;
    /// Word lines of one group.
    std::size_t rows = 0;
    /// Bit lines of one group: its output columns.
    std::size_t cols = 0;
    /// Word lines of one tile; the last tile of a group may have fewer.
    std::size_t tile_rows = 0;
    std::size_t planes = 1;

    std::size_t num_row_tiles() const { return (rows + tile_rows - 1) / tile_rows; }
    std::size_t num_columns() const { return groups * cols; }
};

/// Where the cell of (group, row, col) lies in a plane, in elements.
struct CellStrides {
    std::size_t group = 0;
    std::size_t row = 0;
    std::size_t col = 0;
};

/// How activations become levels on the word lines.
///
/// level = min(max(rint(x * inverse_scale) + zero_point, low), high); without rounding the level is x itself. A level is sent in num_passes
/// digits of bits_per_pass bits, the lowest first; a negative level sends negative digits.
struct InputCoding {
    /// Whether activations are rounded to levels; else the other fields but the passes are not read, and there is one pass.
    bool rounds = false;
    /// Levels an activation unit.
    float inverse_scale = 1.0F;
    /// Level of the activation 0.
    float zero_point = 0.0F;
    /// Lowest level.
    float low = 0.0F;
    /// Highest level.
    float high = 0.0F;
    /// Digits that a level is sent in, one after the other.
    int num_passes = 1;
    /// Bits of a digit; 0 where there is one pass, whose digit is the level.
    int bits_per_pass = 0;
};

/// What becomes of the sum on a bit line: code = min(max(rint(sum * inverse_step), low), high), total += code * gain * 2^(bits_per_pass
/// pass).
///
/// The output is (total - input_sum_gain * sum of all levels of the vector) * column_scale + bias. "Columns" are those of all groups.
struct OutputCoding {
    /// What one code adds to the total, in cell levels times input levels: planes * row tiles * columns.
    std::span<const float> gain;
    /// Codes a unit of the sum, same layout. Empty without a converter: the code is the sum.
    std::span<const float> inverse_step;
    /// Lowest code of the converter.
    float low = 0.0F;
    /// Highest code of the converter.
    float high = 0.0F;
    /// Output units of a total of 1: columns.
    std::span<const float> column_scale;
    /// Output units: columns.
    std::span<const float> bias;
    /// Level of a reference column that is subtracted digitally; 0 where there is none.
    float input_sum_gain = 0.0F;
};

/// Gaussian noise of every read: the sum of a bit line gets sqrt(sum of digit^2 * variance of the cell) * z.
///
/// Draws are keyed by key, by the number of the vector, by tile, plane and pass, and by the column.
struct ReadNoise {
    bool is_on = false;
    /// Quantiles of the standard normal distribution.
    QuantileTable table;
    std::uint64_t key = 0;
    /// Number of the first vector of this call.
    std::uint64_t first_vector = 0;
};

/// Which side of the register block the columns are on: rows of it (outputs of one column lie together, convolutions) or lanes.
enum class ColumnSide { kRows, kLanes };

/// Register block of an instruction set.
struct BlockSize {
    std::size_t rows = 0;
    /// Floats of a row: registers times their width.
    std::size_t lanes = 0;
};

BlockSize block_size(Simd simd);

/// The cells of one programmed layer, in the order in which the product reads them.
struct PackedArray {
    ArrayShape shape;
    ColumnSide side = ColumnSide::kLanes;
    /// Instruction set whose register blocks the order is made for; the product runs on it.
    Simd simd = Simd::kScalar;
    /// Level of every cell: group, row tile, plane, block of columns, word line, column. Where columns are lanes, blocks are filled up with
    /// 0.
    std::vector<float> levels;
    /// Variance of a read of every cell, in squared levels, same order; empty without read noise.
    std::vector<float> variances;

    /// Columns of one block: the last one may be narrower where columns are rows of the register block.
    std::size_t block_cols() const;
    std::size_t num_blocks() const { return (shape.cols + block_cols() - 1) / block_cols(); }
    /// Width that block `index` is stored with.
    std::size_t block_width(std::size_t index) const;
    /// First element of the cells of (group, row tile, plane, block).
    std::size_t offset(std::size_t group, std::size_t tile, std::size_t plane, std::size_t block) const;
};

/// Brings the planes of one layer into the order of the product.
///
/// planes, variances: shape.planes spans of cells each (variances may be empty), addressed by strides.
PackedArray pack_array(const ArrayShape& shape, const CellStrides& strides, std::span<const std::span<const float>> planes,
                       std::span<const std::span<const float>> variances, ColumnSide side, Simd simd);

/// A convolution over up to three axes; missing ones have size 1. Index 0 is the outermost axis.
struct ConvGeometry {
    /// Images.
    std::size_t batch = 0;
    /// Input channels of one group.
    std::size_t channels = 0;
    /// Size of an input image.
    std::array<std::size_t, 3> in{1, 1, 1};
    /// Size of an output image; what the padding at the far end is follows from it.
    std::array<std::size_t, 3> out{1, 1, 1};
    /// Taps of the kernel.
    std::array<std::size_t, 3> kernel{1, 1, 1};
    /// Input positions from one output to the next.
    std::array<std::size_t, 3> stride{1, 1, 1};
    /// Input positions from one tap to the next.
    std::array<std::size_t, 3> dilation{1, 1, 1};
    /// Zeros in front of the image; negative where the image is cut.
    std::array<std::ptrdiff_t, 3> pad{0, 0, 0};

    std::size_t in_volume() const { return in[0] * in[1] * in[2]; }
    std::size_t out_volume() const { return out[0] * out[1] * out[2]; }
    std::size_t kernel_volume() const { return kernel[0] * kernel[1] * kernel[2]; }
};

/// Convolution on a crossbar. array.side is kRows; rows are (channel, kernel position).
///
/// x: batch * groups * channels * in_volume. y: batch * groups * cols * out_volume, not overlapping x. Vectors are numbered by sample, then
/// by output position. Pieces of the batch are spread over threads; the result does not depend on their number or on the instruction set.
void multiply_conv(std::span<const float> x, const ConvGeometry& geometry, const PackedArray& array, const InputCoding& input,
                   const OutputCoding& output, const ReadNoise& noise, int threads, std::span<float> y);

/// Products of vectors with a crossbar. array.side is kLanes.
///
/// x: num_vectors * groups * rows, one vector after the other. y: num_vectors * groups * cols.
void multiply_vectors(std::span<const float> x, std::size_t num_vectors, const PackedArray& array, const InputCoding& input,
                      const OutputCoding& output, const ReadNoise& noise, int threads, std::span<float> y);

namespace detail {

/// One piece of work of a product: the images, or part of one, that a thread takes at a time.
struct ConvPiece {
    std::size_t first_image = 0;
    std::size_t num_images = 0;
    /// First output along the axis that images are cut along.
    std::size_t band_begin = 0;
    /// Outputs along that axis.
    std::size_t band_size = 0;
};

/// Arguments of multiply_conv.
struct ConvJob {
    std::span<const float> x;
    const ConvGeometry& geometry;
    const PackedArray& array;
    const InputCoding& input;
    const OutputCoding& output;
    const ReadNoise& noise;
    std::span<float> y;
    /// Axis that images are cut along: 0 for volumes, 1 else.
    std::size_t band_axis = 1;
};

/// Arguments of multiply_vectors.
struct VectorJob {
    std::span<const float> x;
    std::size_t num_vectors;
    const PackedArray& array;
    const InputCoding& input;
    /// gain and inverse_step filled up so that every group's columns are whole register blocks.
    const OutputCoding& output;
    const ReadNoise& noise;
    std::span<float> y;
};

void conv_scalar(const ConvJob&, const ConvPiece&);
void conv_avx2(const ConvJob&, const ConvPiece&);
void conv_avx512(const ConvJob&, const ConvPiece&);
void vectors_scalar(const VectorJob&, std::size_t begin, std::size_t end);
void vectors_avx2(const VectorJob&, std::size_t begin, std::size_t end);
void vectors_avx512(const VectorJob&, std::size_t begin, std::size_t end);

}  // namespace detail

}  // namespace cimrobust
