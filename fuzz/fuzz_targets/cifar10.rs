#![no_main]

ddpm_fuzz::target!(Cifar10);
