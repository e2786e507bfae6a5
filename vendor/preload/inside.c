/*
 * Looks for llama.cpp in the program that has ended, so that a shell or a server which only starts others is not reported.
 */
#define _GNU_SOURCE
#include "inside.h"

#include <stdint.h>
#include <string.h>

#ifdef __APPLE__
#include <mach-o/dyld.h>
#include <mach-o/getsect.h>
#else
#include <link.h>
#endif

/* llama.cpp's checks hold the names of its source files, llama-sampler.cpp or llama-sampling.cpp: so a program has the sampler chain
 * inside, stripped or not. */
static bool holds_samplers(const void * bytes, size_t size) {
    static const char name[] = "llama-sampl";
    return bytes && memmem(bytes, size, name, sizeof name - 1);
}

static bool is_llama_library(const char * path) {
    const char * slash = strrchr(path, '/');
    return strncmp(slash ? slash + 1 : path, "libllama", 8) == 0;
}

#ifdef __APPLE__
bool holds_llama_cpp(void) {
    unsigned long                 size = 0;
    const struct mach_header_64 * main = (const struct mach_header_64 *) _dyld_get_image_header(0);
    if (holds_samplers(getsectiondata(main, "__TEXT", "__cstring", &size), size)) {
        return true;
    }
    for (uint32_t i = 1; i < _dyld_image_count(); i++) {
        if (is_llama_library(_dyld_get_image_name(i))) {
            return true;
        }
    }
    return false;
}
#else
/* The program itself, which comes first and has no name, or a library that it has opened. */
static int look_into(struct dl_phdr_info * object, size_t size, void * first) {
    (void) size;
    if (!*(bool *) first) {
        return is_llama_library(object->dlpi_name);
    }
    *(bool *) first = false;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) * part = &object->dlpi_phdr[i];
        if (part->p_type == PT_LOAD && (part->p_flags & (PF_R | PF_W)) == PF_R &&
            holds_samplers((const void *) (object->dlpi_addr + part->p_vaddr), part->p_filesz)) {
            return 1;
        }
    }
    return 0;
}

bool holds_llama_cpp(void) {
    bool first = true;
    return dl_iterate_phdr(look_into, &first);
}
#endif
