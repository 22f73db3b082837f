#![no_main]

ddpm_fuzz::target!(Cifar100);
