// A read-only memory whose words come from a file of hexadecimal numbers, one a line.
// The file is looked for where the tool runs, or in the folder that the macro NOMUL_DATA names, a string.
module NOMUL_ROM #(
    parameter WIDTH = 8,
    parameter DEPTH = 2,
    parameter ADDRESS = 1,
    parameter FILE = ""
) (
    input clk,
    input en,
    input [ADDRESS-1:0] address,
    output reg [WIDTH-1:0] data
);
  (* ram_style = "block" *) reg [WIDTH-1:0] words[0:DEPTH-1];
  generate
    if (FILE != "") begin : filled
`ifdef NOMUL_DATA
      localparam PLACE = {`NOMUL_DATA, "/", FILE};
`else
      localparam PLACE = FILE;
`endif
      initial begin
        $readmemh(PLACE, words);
`ifndef SYNTHESIS
        if (words[0] === {WIDTH{1'bx}}) begin
          $display("ERROR: %m: there are no words in %0s; NOMUL_DATA is to name their folder", PLACE);
          $finish;
        end
`endif
      end
    end
  endgenerate
  always @(posedge clk) if (en) data <= words[address];
endmodule
