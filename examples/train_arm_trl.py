#!/usr/bin/env python3
"""Trains an ARM as a LoRA with TRL, on a GPU where there is one. `genarm import` turns the result into a GGUF adapter.

    pip install trl peft
    examples/train_arm_trl.py --model HuggingFaceTB/SmolLM2-135M-Instruct --pairs pairs.jsonl --out adapter
    genarm import adapter --backbone SmolLM2-135M-Instruct.gguf --out arm.gguf --beta-r 0.05

Pairs are TRL's: `prompt`, `chosen` and `rejected`, texts or lists of messages, as `genarm pairs` writes them.
"""

import argparse

import torch
import torch.nn.functional as F
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl.experimental.cpo import CPOConfig, CPOTrainer  # TRL before 0.26: from trl import CPOConfig, CPOTrainer


class ArmTrainer(CPOTrainer):
    """GenARM's objective: -log sigmoid(beta_r * (log pi(chosen) - log pi(rejected))), summed over the response, without a reference."""

    def cpo_loss(self, chosen, rejected):
        loss = -F.logsigmoid(self.beta * (chosen - rejected))
        return loss, self.beta * chosen.detach(), self.beta * rejected.detach()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--pairs", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--beta-r", type=float, default=0.05)
    parser.add_argument("--max-steps", type=int, default=-1)
    args = parser.parse_args()
    lora = LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "k_proj", "v_proj"], task_type="CAUSAL_LM")
    config = CPOConfig(args.out, beta=args.beta_r, cpo_alpha=0.0, learning_rate=5e-4, lr_scheduler_type="cosine", weight_decay=0.05,
                       per_device_train_batch_size=8, gradient_accumulation_steps=4, num_train_epochs=1, max_steps=args.max_steps,
                       max_length=1024, bf16=torch.cuda.is_available(), save_strategy="no", report_to=[])
    data = load_dataset("json", data_files=args.pairs, split="train").select_columns(["prompt", "chosen", "rejected"])
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    trainer = ArmTrainer(AutoModelForCausalLM.from_pretrained(args.model), config, train_dataset=data,
                         processing_class=tokenizer, peft_config=lora)
    trainer.train()
    trainer.save_model(args.out)


if __name__ == "__main__":
    main()
