/* io.h: what the files of this folder share. */
#ifndef NB_IO_H
#define NB_IO_H

#include "nabla.h"

/* sha256.c */
typedef struct nb__sha256 {
    uint32_t      state[8];
    uint64_t      bytes;
    unsigned char block[64]; /* the bytes that do not fill a block yet */
} nb__sha256;
void nb__sha256_begin(nb__sha256 *h);
void nb__sha256_add(nb__sha256 *h, const void *data, size_t bytes);
void nb__sha256_end(nb__sha256 *h, char text[65]); /* 64 hexadecimal digits and a zero byte */

/* file.c: nb_write_file of pieces one after the other. */
typedef struct nb__piece {
    const void *data;
    size_t      bytes;
} nb__piece;
bool nb__write_pieces(nb_context *nb, const char *path, int n, const nb__piece *pieces);

/* The start of the header of every file of ours: the 64 digits of its checksum follow. The metadata hold NB__FORMAT too, so that
 * a file whose checksum has lost its name is seen to be damaged. */
#define NB__HEADER_START "{\"__metadata__\":{\"" NB__CHECKSUM "\":\""
#define NB__CHECKSUM "nabla.sha256"
#define NB__FORMAT "nabla.format"
enum { NB__LENGTH_BYTES = 8, NB__DIGITS_AT = NB__LENGTH_BYTES + sizeof NB__HEADER_START - 1, NB__MAX_HEADER = 100000000 };

/* save.c */
const char *nb__file_dtype_name(nb_dtype dtype);                /* the name of an element type in a file: "F32" */
void        nb__dims_print(nb_dims d, char *text, size_t size); /* "1,28,28" */

#endif
