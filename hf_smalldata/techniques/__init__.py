"""The registry: a technique's name -> where it lives. Nothing is imported until it is asked for."""

from __future__ import annotations

import importlib

from hf_smalldata.errors import UserError, did_you_mean
from hf_smalldata.technique import Technique

REGISTRY: dict[str, str] = {
    # transfer
    "freeze": "hf_smalldata.techniques.transfer.freeze:Freeze",
    "llrd": "hf_smalldata.techniques.transfer.llrd:Llrd",
    "gradual_unfreezing": "hf_smalldata.techniques.transfer.gradual_unfreezing:GradualUnfreezing",
    "reinit": "hf_smalldata.techniques.transfer.reinit:Reinit",
    "linear_probe_then_finetune": (
        "hf_smalldata.techniques.transfer.linear_probe_then_finetune:LinearProbeThenFinetune"
    ),
    # peft
    "lora": "hf_smalldata.techniques.peft.lora:Lora",
    "qlora": "hf_smalldata.techniques.peft.qlora:Qlora",
    "ia3": "hf_smalldata.techniques.peft.ia3:Ia3",
    "vera": "hf_smalldata.techniques.peft.vera:Vera",
    "bitfit": "hf_smalldata.techniques.peft.bitfit:BitFit",
    "prompt_tuning": "hf_smalldata.techniques.peft.prompt_tuning:PromptTuning",
    # augment
    "eda": "hf_smalldata.techniques.augment.eda:Eda",
    "char_noise": "hf_smalldata.techniques.augment.char_noise:CharNoise",
    "mention_replacement": "hf_smalldata.techniques.augment.mention_replacement:MentionReplacement",
    "segment_shuffle": "hf_smalldata.techniques.augment.segment_shuffle:SegmentShuffle",
    "label_token_replacement": "hf_smalldata.techniques.augment.label_token_replacement:LabelTokenReplacement",
    "random_crop": "hf_smalldata.techniques.augment.random_crop:RandomCrop",
    "waveform": "hf_smalldata.techniques.augment.waveform:Waveform",
    "spec_augment": "hf_smalldata.techniques.augment.spec_augment:SpecAugment",
    "reverse_complement": "hf_smalldata.techniques.augment.reverse_complement:ReverseComplement",
    "mutation": "hf_smalldata.techniques.augment.mutation:Mutation",
    "flip": "hf_smalldata.techniques.augment.flip:Flip",
    "geometry": "hf_smalldata.techniques.augment.geometry:Geometry",
    "resized_crop": "hf_smalldata.techniques.augment.resized_crop:ResizedCrop",
    "colour": "hf_smalldata.techniques.augment.colour:Colour",
    "blur": "hf_smalldata.techniques.augment.blur:Blur",
    "image_noise": "hf_smalldata.techniques.augment.image_noise:ImageNoise",
    "cutout": "hf_smalldata.techniques.augment.cutout:Cutout",
    "elastic": "hf_smalldata.techniques.augment.elastic:Elastic",
    "intensity_window": "hf_smalldata.techniques.augment.intensity_window:IntensityWindow",
    "rand_augment": "hf_smalldata.techniques.augment.rand_augment:RandAugment",
    "trivial_augment": "hf_smalldata.techniques.augment.trivial_augment:TrivialAugment",
    "augmix": "hf_smalldata.techniques.augment.augmix:AugMix",
    "image_preset": "hf_smalldata.techniques.augment.image_preset:ImagePreset",
    "mixup": "hf_smalldata.techniques.augment.mixup:Mixup",
    "cutmix": "hf_smalldata.techniques.augment.cutmix:CutMix",
    "mlm_substitution": "hf_smalldata.techniques.augment.mlm_substitution:MlmSubstitution",
    "back_translation": "hf_smalldata.techniques.augment.back_translation:BackTranslation",
    "paraphrase": "hf_smalldata.techniques.augment.paraphrase:Paraphrase",
    "embedding_mixup": "hf_smalldata.techniques.augment.embedding_mixup:EmbeddingMixup",
    # regularise
    "dropout": "hf_smalldata.techniques.regularise.dropout:Dropout",
    "label_smoothing": "hf_smalldata.techniques.regularise.label_smoothing:LabelSmoothing",
    "focal": "hf_smalldata.techniques.regularise.focal:Focal",
    "noise_robust": "hf_smalldata.techniques.regularise.noise_robust:NoiseRobust",
    "rdrop": "hf_smalldata.techniques.regularise.rdrop:RDrop",
    "mixout": "hf_smalldata.techniques.regularise.mixout:Mixout",
    "l2_sp": "hf_smalldata.techniques.regularise.l2_sp:L2Sp",
    "sam": "hf_smalldata.techniques.regularise.sam:Sam",
    "ema": "hf_smalldata.techniques.regularise.ema:Ema",
    "swa": "hf_smalldata.techniques.regularise.swa:Swa",
    # domain
    "continued_pretraining": ("hf_smalldata.techniques.domain.continued_pretraining:ContinuedPretraining"),
    "source_then_target": "hf_smalldata.techniques.domain.source_then_target:SourceThenTarget",
    "joint": "hf_smalldata.techniques.domain.joint:Joint",
    "domain_adapters": "hf_smalldata.techniques.domain.domain_adapters:DomainAdapters",
    "coral": "hf_smalldata.techniques.domain.coral:Coral",
    "mmd": "hf_smalldata.techniques.domain.mmd:Mmd",
    "dann": "hf_smalldata.techniques.domain.dann:Dann",
    "cdan": "hf_smalldata.techniques.domain.cdan:Cdan",
    "mcc": "hf_smalldata.techniques.domain.mcc:Mcc",
    "adapted_head": "hf_smalldata.techniques.domain.adapted_head:AdaptedHead",
    # selftrain
    "label_propagation": "hf_smalldata.techniques.selftrain.label_propagation:LabelPropagation",
    "label_shift": "hf_smalldata.techniques.selftrain.label_shift:LabelShift",
    "pseudo_labels": "hf_smalldata.techniques.selftrain.pseudo_labels:PseudoLabels",
    "mean_teacher": "hf_smalldata.techniques.selftrain.mean_teacher:MeanTeacher",
    "fixmatch": "hf_smalldata.techniques.selftrain.fixmatch:FixMatch",
    "uda": "hf_smalldata.techniques.selftrain.uda:Uda",
    # fewshot
    "pooling": "hf_smalldata.techniques.fewshot.pooling:Pooling",
    "contrastive": "hf_smalldata.techniques.fewshot.contrastive:Contrastive",
    "pattern": "hf_smalldata.techniques.fewshot.pattern:Pattern",
    "logistic_head": "hf_smalldata.techniques.fewshot.logistic_head:LogisticHead",
    "prototypes": "hf_smalldata.techniques.fewshot.prototypes:Prototypes",
    "ridge_head": "hf_smalldata.techniques.fewshot.ridge_head:RidgeHead",
    "prototypical": "hf_smalldata.techniques.fewshot.prototypical:Prototypical",
    "knn": "hf_smalldata.techniques.fewshot.knn:Knn",
    "zero_shot": "hf_smalldata.techniques.fewshot.zero_shot:ZeroShot",
    # synthesis
    "language_model": "hf_smalldata.techniques.synthesis.language_model:LanguageModel",
    "text_vae": "hf_smalldata.techniques.synthesis.text_vae:TextVae",
    "feature_synthesis": "hf_smalldata.techniques.synthesis.feature_synthesis:FeatureSynthesis",
    "vae": "hf_smalldata.techniques.synthesis.vae:Vae",
    "gan": "hf_smalldata.techniques.synthesis.gan:Gan",
    "diffusion_scratch": "hf_smalldata.techniques.synthesis.diffusion_scratch:DiffusionScratch",
    "diffusion_edit": "hf_smalldata.techniques.synthesis.diffusion_edit:DiffusionEdit",
}


ELSEWHERE = {  # names of the field -> what stands for them here
    "adaption_prompt": "lora: prompts inside of blocks do not merge into a model that `pipeline` loads",
    "discriminative": "llrd",
    "discriminative_fine_tuning": "llrd",
    "early_stopping": "train.early_stopping_patience",
    "feature_extraction": "freeze: {blocks: all}",
    "flexmatch": "fixmatch: {flexible: true}",
    "freezing": "freeze",
    "logit_adjustment": "label_shift: all shares alike unless it is told others",
    "noisy_student": "pseudo_labels beside dropout or an augmentation",
    "p_tuning": "prompt_tuning",
    "prefix": "prompt_tuning: keys and values of every block do not merge into a model that `pipeline` loads",
    "prefix_tuning": "prompt_tuning: keys and values of every block do not merge into a model that `pipeline` loads",
    "shot": "adapted_head: one round of its labels, in closed form",
    "smote": "feature_synthesis: {kind: smote}",
    "supcon": "contrastive: {loss: supcon}",
    "tapt": "continued_pretraining: {corpus: both}",
    "tent": "`hf-smalldata predict --adapt tent`",
    "weight_decay": "train.weight_decay",
}


def get_technique(name: str) -> type[Technique]:
    """The class behind a name.

    Raises:
        UserError: no such technique.
    """
    if name in ELSEWHERE:
        raise UserError(f"no technique of that name; it is {ELSEWHERE[name]}")
    if name not in REGISTRY:
        raise UserError(f"unknown technique{did_you_mean(name, REGISTRY)}")
    module, _, attribute = REGISTRY[name].partition(":")
    found: type[Technique] = getattr(importlib.import_module(module), attribute)
    return found
