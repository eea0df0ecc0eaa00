/* independent.h: the mark of a loop over elements whose result may be an operand's array, at the same elements: there is no other
 * dependence from one turn to the next. */
#ifndef NB_INDEPENDENT_H
#define NB_INDEPENDENT_H

#ifdef __clang__
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#endif

#endif
