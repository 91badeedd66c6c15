#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>
#include <type_traits>

namespace cimrobust {
namespace {

/// Memory of a fixed size, zero at first; for numbers. Elements of a const buffer can be written: the size is what is const.
///
/// calloc hands out fresh pages that nobody has to clear; std::vector would write every zero. And as everything that the paths of several
/// instruction sets are compiled from, it sits in an unnamed namespace.
template <class T>
class Buffer {
    static_assert(std::is_arithmetic_v<T>);

   public:
    explicit Buffer(std::size_t size) : data_(static_cast<T*>(std::calloc(size == 0 ? 1 : size, sizeof(T)))) {
        if (data_ == nullptr) {
            throw std::bad_alloc();
        }
    }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    ~Buffer() { std::free(data_); }
    T* get() const { return data_; }
    T& operator[](std::size_t index) const { return data_[index]; }

   private:
    T* data_;
};

}  // namespace
}  // namespace cimrobust
