#pragma once

#include <cstdio>
#include <cstdlib>

/// Ends the test with the place and the expression unless it holds.
#define CHECK(expression)                                                                   \
    do {                                                                                    \
        if (!(expression)) {                                                                \
            std::fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #expression); \
            std::exit(1);                                                                   \
        }                                                                                   \
    } while (false)
