/* Classes of cost, as in mvolatile/cache/cost.py: eight in each power of two, the first a microsecond; 0 for what nobody knows. */
#ifndef MVOLATILE_PYTHON_COSTS_H
#define MVOLATILE_PYTHON_COSTS_H

#include <stdint.h>

static inline double cost_seconds(uint8_t cost) {
    static const double step[8] = {1e-6,
                                   1.0905077326652577e-6,
                                   1.189207115002721e-6,
                                   1.2968395546510096e-6,
                                   1.4142135623730951e-6,
                                   1.5422108254079407e-6,
                                   1.681792830507429e-6,
                                   1.8340080864093424e-6};
    return cost ? step[(cost - 1) % 8] * (double)(1ULL << (cost - 1) / 8) : 0;
}

#endif
