#!/usr/bin/perl
# Calls HTTP servers on unix sockets, one after another, each on a connection that stays, and prints the microseconds of
# each call. Standard input has one call a line: socket, path and JSON body, separated by tabs. Anything but a 200 with a
# Content-Length ends it. Perl, because it is in every VM and its own part of a call is a few lines of code.
use strict;
use warnings;
use IO::Socket::UNIX ();
use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);

my %connections;
while ( my $line = <STDIN> ) {
    chomp $line;
    my ( $socket, $path, $body ) = split /\t/, $line, 3;
    my $connection = $connections{$socket} //= IO::Socket::UNIX->new($socket) // die "$socket: $!\n";
    my $length     = length $body;
    my $request =
      "POST $path HTTP/1.1\r\nHost: vm\r\nContent-Type: application/json\r\nContent-Length: $length\r\n\r\n$body";
    my $started = clock_gettime(CLOCK_MONOTONIC);
    syswrite( $connection, $request ) == length $request or die "$socket: $!\n";
    my ( $reply, $whole ) = ( '', undef );
    while ( !defined $whole || length $reply < $whole ) {
        sysread( $connection, $reply, 65_536, length $reply ) or die "$socket: the connection ended\n";
        next if defined $whole || $reply !~ /\r\n\r\n/;
        my $head = $+[0];
        die "$path: $reply\n" unless $reply =~ m{\AHTTP/1\.1 200 } && $reply =~ /\r\ncontent-length: (\d+)/i;
        $whole = $head + $1;
    }
    printf "%d\n", ( clock_gettime(CLOCK_MONOTONIC) - $started ) * 1e6;
}
