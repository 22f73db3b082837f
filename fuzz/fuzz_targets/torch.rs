#![no_main]

ddpm_fuzz::target!(Torch);
