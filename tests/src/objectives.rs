//! What can be trained besides ε over a table.

/// Every kind of process and objective: a name, and what is set for it. The first three are processes.
pub const OBJECTIVES: &[(&str, &[&str])] = &[
    ("vp", &["process=vp", "objective.prediction=v"]),
    (
        "edm",
        &[
            "process=edm",
            "process.sigma_data=0.7",
            "sample.spacing=karras",
        ],
    ),
    (
        "flow",
        &[
            "process=flow",
            "process.shift=2",
            "process.times=logit_normal",
        ],
    ),
    (
        "learning",
        &[
            "schedule.steps=20",
            "objective.importance.history=1",
            "objective.uncertainty.channels=16",
        ],
    ),
    ("learned", &["objective.variance=learned_range"]),
    (
        "vlb",
        &[
            "objective.variance=learned_range",
            "objective.bound=vlb",
            "objective.prediction=v",
        ],
    ),
    (
        "told",
        &[
            "objective.self_condition=0.5",
            "objective.error=pseudo_huber",
            "objective.weighting=soft_min_snr",
        ],
    ),
    (
        "noisy",
        &[
            "objective.offset_noise=0.1",
            "objective.input_perturbation=0.1",
            "objective.error=l1",
        ],
    ),
];
