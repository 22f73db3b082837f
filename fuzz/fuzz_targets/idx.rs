#![no_main]

ddpm_fuzz::target!(Idx);
