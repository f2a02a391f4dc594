"""The words of a log and a page: meaning and direction of every term, metric and finding. Needs no torch.

Every other place that says what a number means takes it from here: the page, `gan explain`, docs/reading-a-run.md and
the leaderboard, which sorts by the direction.
"""

from gancli.metrics.term import HIGHER, LOWER, Term, score

PENALTY = "model/penalty=r1 model.norm=none"  # batch norm mixes the images of a batch, a penalty is defined for each
LOWER_RATE = "model.lr="  # a quarter of the rate that the run had
D_OUTPUT = "0.5: D cannot tell real from fake"
TOO_ALIKE = "low: samples are too alike; type model.packing=2"
D_ADVICE = f"near 1 for real and 0 for fake for long: D is winning; type {PENALTY}, or model/augment=diffaugment"
LOSSES = (
    Term(
        ("D/adversarial", "D/target", "D/source"),
        "loss of D: how badly it tells real from fake images",
        "no direction: neither near 0 nor growing",
        "1.39 where D cannot tell, often 0.4 to 1.4 (hinge 2, least_squares 0.25, relativistic 0.69, wasserstein < 0)",
        f"near 0 for long: D is winning; type {PENALTY}. Above 10,000: type a lower model.lr=",
    ),
    Term(
        ("G/adversarial", "G/target", "G/source"),
        "loss of G against D: how badly it fools D",
        "no direction: compare with D's loss; images improve while it wanders",
        "0.69 where D cannot tell (least_squares 0.125); often 0.7 to 3",
        f"rising without end: D is winning; type {PENALTY}, or model/augment=diffaugment",
    ),
    Term(
        ("D/penalty",),
        "weighted penalty on D's gradient, which keeps D smooth",
        "no direction: small next to D's adversarial loss",
        "0 to about 0.5; 0 in steps without it (model.penalty.every)",
        "larger than the adversarial loss: D hardly learns; type a lower model.penalty.weight=",
    ),
    Term(
        ("D/class", "G/class"),
        "cross-entropy of the class that D predicts: D's on real and fake images, G's on its fakes",
        LOWER,
        "ln(number of classes) at first (2.3 for ten; D's is twice that), later below 0.5",
        "it stays high: images do not show their class; type a larger model.class_weight=",
    ),
    Term(
        ("G/drifting",),
        "distance of fakes from where the drifting field moves them: to real images, away from other fakes",
        "no direction: each step of the field has a fixed length",
        "about 7 with its weight of 1, from the first step to the last",
    ),
    Term(
        ("G/features", "G/similarity"),
        "distance by D's features: of mean fakes and reals, or of reconstructions and their images (VAE/GAN)",
        LOWER,
        "falls at first, then wanders, because D's features change",
    ),
    Term(
        ("G/content",),
        "distance of generated images from the real ones (mean absolute or squared error, or of VGG features)",
        LOWER,
        "falls quickly at first; an adversarial loss makes it rise a little, for sharper images",
        "it no longer falls: type a larger trainer.steps= or model.width=",
    ),
    Term(
        ("G/reconstruction", "D/reconstruction", "E/reconstruction"),
        "reconstruction: -log p(x | z) in nats (VAE), or distance from the image (AE-GAN; FastGAN's D; masked E)",
        LOWER,
        "falls quickly at first and then slowly; a Gaussian likelihood may go below 0",
        "images are blurred: type a larger model.z_dim= or a lower model.beta=",
    ),
    Term(
        ("G/kl", "kl"),
        "KL divergence of the encoder's latents from noise, in nats an image (G/kl: times its weight)",
        "no direction: the information that the latents carry",
        "10 to 40 nats; it rises while the reconstruction falls",
        "near 0: the decoder ignores the latents; type model.warmup=0.3, or a lower model.beta=",
    ),
    Term(
        ("G/prior",),
        "weighted distance of the encoder's latents from noise",
        LOWER,
        "falls below 0.1",
        "it stays high: samples look worse than reconstructions; type a larger model.prior=",
    ),
    Term(
        ("G/cycle",),
        "weighted error of images that were translated there and back",
        LOWER,
        "falls below 1 with the default weight of 10",
        "it stays high: type a larger model.cycle=",
    ),
    Term(
        ("G/identity",),
        "weighted change of images that are of the other set already",
        LOWER,
        "about half of G/cycle",
        "colours must change: type model.identity=0",
    ),
)
OUTPUTS = (
    *(
        Term(
            (f"D({of})", f"D_target({of})", f"D_source({of})"),
            f"D's output on {images} images: probability, or fraction, that it takes for real",
            *(D_OUTPUT, normal, D_ADVICE),
        )
        for of, images, normal in (("real", "real", "0.5 to 0.85"), ("fake", "generated", "0.15 to 0.5"))
    ),
    Term(
        ("D(real over fake)", "D_target(real over fake)", "D_source(real over fake)"),
        "probability by D that a real image is more real than a generated one",
        D_OUTPUT,
        "0.5 to 0.8",
        "near 1 over 500 steps: D is winning; type a larger model.penalty.weight=",
    ),
    Term(
        ("gap(held out)",),
        "how generated images that D never trained on look to it: 0 as real as its training images, 1 as fakes",
        "0: D does not memorise",
        "-0.1 to 0.3",
        "above 0.5: D is memorising; type model/augment=diffaugment, or add images",
    ),
    Term(
        ("augment_p",),
        "probability of each augmentation of D's images, which model/augment=ada adapts",
        "no direction: rises while D memorises the real images",
        "0 to 0.8",
        "near 1: these are very few images; add some, or compare with model/augment=diffaugment",
    ),
)
TRAINING = (
    Term(
        ("gradient_norm(G)", "gradient_norm(D)", "gradient_norm(E)"),
        "length of the gradient of a network's whole loss",
        "no direction: compare with its own past",
        "steady within a factor of 10; often 1 to 100",
        "100 times its median: type trainer.clip=1. G's near 0: D is winning, see gan explain d_winning",
    ),
    Term(
        ("lr",),
        "learning rate of the first optimizer, G's, after the schedule",
        "no direction: the schedule and rollbacks lower it",
        "1e-5 to 1e-3",
        "losses diverge: type a lower model.lr=",
    ),
    Term(("step",), "steps so far; each updates D n_critic times and G once", "no direction"),
    Term(("kimg",), "thousands of real images that D or G trained on", "no direction: compare runs at equal kimg"),
    Term(("minutes",), "minutes of training, without pauses between sessions", "no direction"),
    Term(
        ("images_per_second",),
        "real images trained on in a second, since the previous line",
        f"{HIGHER}, at equal settings",
        "steady; lower during the first steps and next to other programs",
        "too slow: type a smaller data.size= or model.width=; gan bench measures this machine",
    ),
    Term(
        ("evaluate_seconds",),
        "seconds that the last evaluation took",
        LOWER,
        "below 5 % of the training's time",
        "too long: type a larger trainer.evaluate_every= or a smaller trainer.evaluate_n=",
    ),
)
SAMPLES = (
    Term(
        ("sliced_wasserstein",),
        "distance of samples from real images by their pixels, along random directions",
        f"{LOWER}; sees averages, contrast and variety, no detail",
        "falls to 0.02 to 0.1",
        "it no longer falls and samples are poor: gan evaluate measures more than pixels",
    ),
    Term(
        ("diversity",),
        "how much samples differ from each other, relative to real images",
        f"{HIGHER}; 1: as varied as the data",
        "0.7 to 1.05 after the first 500 steps",
        "below 0.3: mode collapse; type model.packing=2, or model.minibatch=discrimination",
    ),
    Term(
        ("class_coverage",),
        "fraction of the data's classes that samples look like",
        f"{HIGHER}; 1: all classes",
        "1, or close to it",
        "below 0.85: classes are missing; type model.packing=2, or model=unrolled",
    ),
    Term(
        ("reconstruction_psnr",),
        "likeness of reconstructions to their images, PSNR in dB",
        HIGHER,
        "15 to 25 dB",
        "low: type a larger model.z_dim= or model.width=",
    ),
    Term(
        ("elbo", "importance_weighted"),
        "lower bound of the log-likelihood of an image in nats; importance_weighted is the tighter one",
        HIGHER,
        "binarised MNIST: -110 to -85; other data and likelihoods have other scales",
        "it falls: type a lower model.lr=",
    ),
    Term(
        ("elbo_bits", "importance_weighted_bits"),
        "the same bound as bits per pixel and channel: the cost to store an image",
        LOWER,
        "binarised MNIST: 0.15 to 0.2; 8-bit images: 2 to 6",
    ),
    Term(
        ("psnr", "hole_psnr"),
        "likeness of generated to real images in dB (hole_psnr: in the hole alone)",
        f"{HIGHER}; compare with naive_psnr",
        "above naive_psnr; a model that colours or fills holes plausibly may stay below",
        "below naive_psnr without an adversarial loss: train longer, type a larger trainer.steps=",
    ),
    Term(
        ("naive_psnr", "naive_hole_psnr"),
        "the same without a network: bicubic, the mean colour or the given image itself",
        "no direction: what psnr must exceed",
        "constant",
    ),
    Term(
        ("cycle_error", "cycle_error_sources", "cycle_error_targets"),
        "mean absolute difference, in [-1, 1], of images translated there and back",
        LOWER,
        "0.02 to 0.1",
        "it stays high: type a larger model.cycle=",
    ),
)
SCORES = (
    score(
        "fd",
        "Fréchet distance of features of generated and of real images",
        f"{LOWER}; 0: the same distribution",
        "MNIST after 5 minutes: 2 to 10; compare equal protocols only",
        "high: look at precision (bad images) and recall (missing ones)",
    ),
    score(
        "kd",
        "kernel distance of features: as the Fréchet distance, but unbiased for few images",
        f"{LOWER}; 0: the same distribution, and slightly below 0 by chance",
        "shown with its deviation over subsets",
    ),
    score(
        "score",
        "inception score: how surely and how evenly images are classified; sees no real image",
        f"{HIGHER}; the real images' own value is the goal",
        "1 to the number of the classifier's classes",
    ),
    score(
        "precision",
        "fraction of generated images that lie among the real ones: quality",
        f"{HIGHER}; 1: all of them",
        "0.6 to 0.95",
        "low: bad images; train longer, or type a larger model.width=",
    ),
    score(
        "recall",
        "fraction of real images that lie among the generated ones: variety",
        f"{HIGHER}; 1: all of them",
        "0.5 to 0.9",
        TOO_ALIKE,
    ),
    score(
        "density",
        "how densely real images surround the generated ones: quality, robust to outliers",
        f"{HIGHER}; about 1 for real images",
        "0.6 to 1.1; far above 1: only typical images are generated",
    ),
    score(
        "coverage",
        "fraction of real images with a generated one near them: variety, robust to outliers",
        f"{HIGHER}; 1: all of them",
        "0.6 to 0.97",
        TOO_ALIKE,
    ),
    score(
        "accuracy",
        "fraction of generated images that are classified as the class they were asked for",
        f"{HIGHER}; the real images' own value is the goal",
        "0.9 to 0.99 on digits",
        "low: train longer, or type model=sngan_proj, whose D compares image and class",
    ),
    score(
        "class_fd",
        "Fréchet distance within each class, the mean over classes",
        f"{LOWER}; 0: the same distribution",
        "larger than the distance of all images, because classes have fewer of them",
    ),
    Term(
        ("swd", "swd_full", "swd_half", "swd_quarter"),
        "distance of small patches at three sizes, 1000 times the sliced Wasserstein distance; swd is the mean",
        f"{LOWER}; the real images' own value is the floor; needs no network",
        "CIFAR-10: 17 for real images, 40 to 120 after some minutes of training",
        "swd_full is high: stripes, or details that are missing; train longer, or let the learning rates fall",
    ),
    Term(
        ("copies",),
        "fraction of generated images that repeat a training image, by the correlation of their details",
        f"{LOWER}; the real images' own value: chance",
        "0.02 or less",
        "far above: G has memorised; type model/augment=diffaugment, or train on more images",
    ),
    Term(("squared_error",), "mean squared error of reconstructions, in [-1, 1]", LOWER, "0.01 to 0.1"),
    Term(("ssim",), "structural similarity of enlarged and real images", f"{HIGHER}; 1: equal", "0.7 to 0.8 at x4"),
    Term(
        ("sharpness", "high_frequency"),
        "how much detail there is: mean gradient relative to real images; power of high frequencies, in dB",
        "1, or 0 dB: as in real images; says nothing about whether the detail is right",
        "below for smooth results, above for noise",
        "too smooth: type ckpt=sharp, or model=sr_compact_gan",
    ),
)
WARNING = "a warning in the log and on the page; none is best"
FINDINGS = (
    Term(
        ("d_winning",),
        "D makes almost no mistakes, so its outputs no longer tell G what to change",
        WARNING,
        "D(real) below 0.99 and D(fake) above 0.01, in the mean of 500 steps",
        remedies=(PENALTY, "model/augment=diffaugment", LOWER_RATE),
    ),
    Term(
        ("mode_collapse",),
        "G generates nearly the same image from every z",
        WARNING,
        "diversity of 0.7 or more; the warning comes below 0.3",
        remedies=("model.packing=2", "model.minibatch=discrimination", PENALTY, LOWER_RATE),
    ),
    Term(
        ("classes_missing",),
        "samples vary, but whole classes of the data are never generated",
        WARNING,
        "class_coverage of 1; the warning comes below 0.85",
        remedies=("model.packing=2", "model=unrolled", "model=unrolled_mlp", "model.minibatch=discrimination"),
    ),
    Term(
        ("gradients_exploding",),
        "a gradient far larger than usual: one such step can undo the training",
        WARNING,
        "gradient norms within 100 times their median",
        remedies=("trainer.clip=1", LOWER_RATE),
    ),
    Term(
        ("losses_diverging", "nan"),
        "a loss grows without bound, or is not a number (NaN)",
        f"{WARNING}; a NaN ends the run, the last checkpoint is good",
        "adversarial losses between -10 and 10, of a critic within 1,000",
        "trainer.on_nan=rollback goes back to the last checkpoint by itself, at half the learning rate",
        remedies=(LOWER_RATE, "model/penalty=gp model.norm=none", "trainer.clip=1"),
    ),
    Term(
        ("memorising", "memorizing", "overfitting"),
        "D knows the few real images by heart, so that images held out look generated to it, or G repeats them",
        f"{WARNING}, of a folder that holds images out; gan evaluate metrics=[copies] finds what G repeats",
        "gap(held out) below 0.3; the warning comes above 0.5",
        "more steps make it worse: trainer.evaluate_every=500 keeps the best checkpoint",
        remedies=("model/augment=diffaugment", "model/augment=ada", PENALTY),
    ),
)
GROUPS = {
    "losses": LOSSES,
    "outputs of D": OUTPUTS,
    "training": TRAINING,
    "samples, measured with every grid": SAMPLES,
    "scores of gan evaluate": SCORES,
    "findings": FINDINGS,
}
_BY_NAME = {name: term for terms in GROUPS.values() for term in terms for name in term.names}


def names() -> list[str]:
    """Return the names of all terms."""
    return list(_BY_NAME)


def find(key: str) -> Term | None:
    """Return the term of a key of the log, or None."""
    return _BY_NAME.get(key)


def higher_is_better(metric: str) -> bool:
    """Return whether a metric is better the higher it is; an unknown one is better the lower it is."""
    term = find(metric)
    return term is not None and term.direction.startswith(HIGHER)
