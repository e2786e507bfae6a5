/* A tool that knows nothing of genarm: prints its chain, and that of a clone. */
#include "llama.h"

#include <stdio.h>

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

static void print(const char * who, const struct llama_sampler * chain) {
    printf("%s: logits", who);
    for (int i = 0; i < llama_sampler_chain_n(chain); i++) {
        printf(" -> %s", llama_sampler_name(llama_sampler_chain_get(chain, i)));
    }
    putchar('\n');
}

int main(int argc, char ** argv) {
    struct llama_model * model = argc == 2 ? llama_model_load(argv[1]) : NULL;
    if (!model) {
        return 3;
    }
    llama_model_get_vocab(model);
    struct llama_sampler * chain = llama_sampler_chain_init((struct llama_sampler_chain_params) { true });
    llama_sampler_chain_add(chain, llama_sampler_init(&nothing, NULL));
    struct llama_sampler * clone = llama_sampler_clone(chain);
    print("chain", chain);
    print("clone", clone);
    llama_sampler_free(clone);
    llama_sampler_free(chain);
    llama_model_free(model);
    return 0;
}
