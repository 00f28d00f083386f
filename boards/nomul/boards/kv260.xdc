# The only clock is PL clock 0 of the processing system; the block design constrains it, and no pin is used.
set_property BITSTREAM.GENERAL.COMPRESS TRUE [current_design]
