"""What tests of rules, symptoms and problems inherit: contracts, and problems with known answers."""
