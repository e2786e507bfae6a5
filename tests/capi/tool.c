/* A tool that knows nothing of genarm: prints its chain, and that of a clone. */
#include "nothing.h"

#include <stdio.h>

static void print(const char * who, const struct llama_sampler * chain) {
    printf("%s: logits", who);
    for (int i = 0; i < llama_sampler_chain_n(chain); i++) {
        printf(" -> %s", llama_sampler_name(llama_sampler_chain_get(chain, i)));
    }
    putchar('\n');
}

static struct llama_sampler * make(const char * who, const struct llama_model * model) {
    if (model) {
        llama_model_get_vocab(model);
    }
    struct llama_sampler * chain = llama_sampler_chain_init((struct llama_sampler_chain_params) { true });
    llama_sampler_chain_add(chain, llama_sampler_init(&nothing, NULL));
    print(who, chain);
    return chain;
}

/* tool TOKENS, or tool TOKENS DRAFT of another model that drafts; it is loaded first with `tool TOKENS DRAFT first`. */
int main(int argc, char ** argv) {
    struct llama_model * draft = argc == 4 ? llama_model_load(argv[2]) : NULL;
    if (draft) {
        llama_model_get_vocab(draft);
    }
    struct llama_model * model = argc >= 2 ? llama_model_load(argv[1]) : NULL;
    if (!model) {
        return 3;
    }
    llama_model_get_vocab(model);
    if (argc == 3) {
        draft = llama_model_load(argv[2]);
        llama_model_get_vocab(draft);
    }
    if (draft) {
        llama_sampler_free(make("draft", draft));
        llama_sampler_free(make("draft", draft));
    }
    struct llama_sampler * chain = make("chain", model);
    struct llama_sampler * clone = llama_sampler_clone(chain);
    print("clone", clone);
    llama_sampler_free(clone);
    llama_sampler_free(chain);
    if (draft) {
        llama_model_get_vocab(draft);
        llama_model_free(draft);
        llama_sampler_free(make("after", NULL)); /* on the thread that asked last for a vocabulary that is gone */
    }
    llama_model_free(model);
    return 0;
}
