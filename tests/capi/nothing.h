/* An ordinary sampler that does nothing, for the hosts of the tests. */
#pragma once

#include "llama.h"

static struct llama_sampler * nothing_clone(const struct llama_sampler * sampler) {
    return llama_sampler_init(sampler->iface, NULL);
}
static const char * nothing_name(const struct llama_sampler * sampler) { return (void) sampler, "top-k"; }
static void         nothing_accept(struct llama_sampler * sampler, llama_token token) { (void) sampler, (void) token; }
static void         nothing_free(struct llama_sampler * sampler) { (void) sampler; }
static void nothing_apply(struct llama_sampler * sampler, llama_token_data_array * array) { (void) sampler, (void) array; }
static struct llama_sampler_i nothing = { .name   = nothing_name,
                                          .accept = nothing_accept,
                                          .apply  = nothing_apply,
                                          .reset  = nothing_free,
                                          .clone  = nothing_clone,
                                          .free   = nothing_free };
