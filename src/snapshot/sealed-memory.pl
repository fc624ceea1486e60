#!/usr/bin/perl
# Makes a memory file (memfd_create(2)) that nobody can change any more, which Node has no call for.
#
#   sealed-memory.pl BYTES
#
# Prints the number of its descriptor, for the parent to open as /proc/<pid>/fd/<number> and to fill. At the first line of
# input, which is the word to seal it, no process may write to it any more, nor make it larger or smaller; then prints
# `sealed`. At the end of the input it exits: the file lives on with those who have it open.
use strict;
use warnings;
use IO::Handle;

use constant {
    SYS_MEMFD_CREATE  => 319,       # x86_64
    MFD_ALLOW_SEALING => 2,
    F_ADD_SEALS       => 1033,
    # F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE
    ALL_SEALS => 1 | 2 | 4 | 8,
};

my $name       = 'berth-memory';
my $descriptor = syscall SYS_MEMFD_CREATE, $name, MFD_ALLOW_SEALING;
die "memfd_create: $!\n" if $descriptor < 0;
open my $file, '+<&=', $descriptor or die "open: $!\n";
truncate $file, $ARGV[0] or die "truncate: $!\n";
STDOUT->autoflush(1);
print "$descriptor\n";
exit 0 unless defined readline STDIN;
fcntl $file, F_ADD_SEALS, ALL_SEALS or die "seal: $!\n";
print "sealed\n";
readline STDIN;
